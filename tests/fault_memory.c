/* fault_memory.c - memory and threads that may be refused; see fault_layer.h. */
#include "config.h"
#include "tests/fault_layer.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define NO_MEMORY(result)                                                                          \
    if (fault_strike(FAULT_MEMORY, -1, NULL) == FAULT_FAIL) return result

WRAP(void *, malloc, size_t n)
{
    NO_MEMORY(NULL);
    return __real_malloc(n);
}

WRAP(void *, calloc, size_t n, size_t size)
{
    NO_MEMORY(NULL);
    return __real_calloc(n, size);
}

WRAP(void *, realloc, void *old, size_t n)
{
    NO_MEMORY(NULL);
    return __real_realloc(old, n);
}

WRAP(int, posix_memalign, void **out, size_t align, size_t n)
{
    NO_MEMORY(ENOMEM);
    return __real_posix_memalign(out, align, n);
}

WRAP(void *, aligned_alloc, size_t align, size_t n)
{
    NO_MEMORY(NULL);
    return __real_aligned_alloc(align, n);
}

WRAP(char *, strdup, const char *text)
{
    NO_MEMORY(NULL);
    return __real_strdup(text);
}

WRAP(char *, strndup, const char *text, size_t n)
{
    NO_MEMORY(NULL);
    return __real_strndup(text, n);
}

WRAP(FILE *, open_memstream, char **text, size_t *n)
{
    NO_MEMORY(NULL);
    return __real_open_memstream(text, n);
}

WRAP(int, vasprintf, char **out, const char *format, va_list ap)
{
    NO_MEMORY(-1);
    return __real_vasprintf(out, format, ap);
}

int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list ap);
int __wrap___vasprintf_chk(char **out, int flag, const char *format, va_list ap)
{
    (void)flag;
    return __wrap_vasprintf(out, format, ap);
}

WRAP(int, pthread_create, pthread_t *id, const pthread_attr_t *attr, void *(*start)(void *),
     void *arg)
{
    BEFORE(FAULT_THREAD, -1, NULL, fault_errno());
    return __real_pthread_create(id, attr, start, arg);
}

/* libcrypto is used for digests alone: its memory may fail as ours does. */
static void *crypto_malloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_malloc(n);
}

static void *crypto_realloc(void *old, size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return __wrap_realloc(old, n);
}

static void crypto_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    free(p);
}

void fault_memory_open(void)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (!CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free)) abort();
    /* OpenSSL 3.0 itself crashes when the memory for its tables is refused: it makes them now. */
    if (!EVP_Digest("", 0, digest, NULL, EVP_sha256(), NULL)) abort();
    json_set_alloc_funcs(__wrap_malloc, free);
}
