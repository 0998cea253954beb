/* mem.h - sizes that cannot wrap, and an arena for the metadata of one job. */
#ifndef TMB_BASE_MEM_H
#define TMB_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *out = a op b; false, and *out untouched, when it does not fit.  Every size that depends on
 * a number from a file goes through these. */
static inline bool tmb_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool tmb_add(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

/* ceil(a / b) for b > 0, without the overflow of (a + b - 1). */
static inline uint64_t tmb_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* At least `bytes`, 64-byte aligned, for free(); NULL when there is none left.  Much of it is asked
 * for in large pages, so that filling it costs few page faults. */
void *tmb_aligned(uint64_t bytes);

/* Memory that is given back all at once.  Zero-initialised is empty and ready. */
typedef struct tmb_arena {
    struct tmb_arena_block *head;
    size_t bytes; /* handed out so far */
} tmb_arena;

/* Zeroed memory aligned for any type, owned by the arena; NULL when there is none left. */
void *tmb_arena_alloc(tmb_arena *arena, size_t bytes);
/* A copy of text [n bytes], NUL-terminated; NULL when there is no memory. */
char *tmb_arena_text(tmb_arena *arena, const char *text, size_t n);
/* printf into the arena. */
char *tmb_arena_printf(tmb_arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tmb_arena_free(tmb_arena *arena);

#endif
