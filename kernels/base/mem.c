#include "config.h"
#include "kernels/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct tmb_arena_block {
    struct tmb_arena_block *next;
    size_t used, size;
    _Alignas(16) char data[];
};

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* small: a sanitizer makes and marks each block   \
                                                 */
enum { BLOCK_BYTES = 4096 - 64 };
#else
enum { BLOCK_BYTES = 256 * 1024 - 64 };
#endif

enum { LARGE_PAGE = 2 << 20 };

void *tmb_aligned(uint64_t bytes)
{
    if (bytes > SIZE_MAX - 64) return NULL;
    size_t n = ((size_t)bytes / 64 + 1) * 64;
    char *p = aligned_alloc(64, n);
    if (!p || n < 2 * LARGE_PAGE) return p;
    size_t before = (LARGE_PAGE - (uintptr_t)p % LARGE_PAGE) % LARGE_PAGE;
    (void)madvise(p + before, (n - before) / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
    return p;
}

void *tmb_arena_alloc(tmb_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + 15) & ~(size_t)15;
    struct tmb_arena_block *b = arena->head;
    if (!b || b->size - b->used < bytes) {
        size_t size = bytes > BLOCK_BYTES / 4 ? bytes : BLOCK_BYTES;
        struct tmb_arena_block *fresh = malloc(sizeof *fresh + size);
        if (!fresh) return NULL;
        fresh->used = 0;
        fresh->size = size;
        if (b && size == bytes) { /* a large piece goes behind the block still being filled */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            arena->head = fresh;
        }
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    arena->bytes += bytes;
    memset(p, 0, bytes);
    return p;
}

char *tmb_arena_text(tmb_arena *arena, const char *text, size_t n)
{
    char *copy = tmb_arena_alloc(arena, n + 1);
    if (copy) memcpy(copy, text, n);
    return copy;
}

char *tmb_arena_printf(tmb_arena *arena, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    if (n < 0) return NULL;
    char *text = tmb_arena_alloc(arena, (size_t)n + 1);
    if (!text) return NULL;
    va_start(ap, format);
    vsnprintf(text, (size_t)n + 1, format, ap);
    va_end(ap);
    return text;
}

void tmb_arena_free(tmb_arena *arena)
{
    while (arena->head) {
        struct tmb_arena_block *next = arena->head->next;
        free(arena->head);
        arena->head = next;
    }
    arena->bytes = 0;
}
