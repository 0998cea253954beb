/* progress.h - what a long job tells whoever watches it. */
#ifndef TMB_BASE_PROGRESS_H
#define TMB_BASE_PROGRESS_H

#include <stdint.h>

typedef struct tmb_progress {
    const char *phase; /* "quantize", "verify" */
    uint64_t done_bytes, total_bytes; /* of input */
    uint32_t done_units, total_units;
    const char *current; /* name of something being worked on; NULL when nothing is */
    const char *counted, *units; /* what the two pairs above count instead: "tokens", "layers"; NULL:
                                    bytes, units */
} tmb_progress;

/* Called from one thread at a time, often; the receiver limits its own rate.  NULL: nobody watches. */
typedef struct tmb_watch {
    void (*progress)(void *ctx, const tmb_progress *p);
    void *ctx;
    const volatile int *stop; /* becomes non-zero on Ctrl-C; may be NULL */
} tmb_watch;

#endif
