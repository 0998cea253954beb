/* spill.h - large arrays of one rank: in memory, or in a file without a name that the kernel pages.
 *
 * What all tokens of a run look like between two layers is often larger than memory, and each layer
 * reads and writes it once, in order: mapping a file does that well, and leaves nothing behind when
 * the process is killed. */
#ifndef TMB_DIAGNOSE_SPILL_H
#define TMB_DIAGNOSE_SPILL_H

#include "kernels/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { TMB_SPILL_ARRAYS = 64 };

/* Bytes of one rank that stay in memory; arrays past them go to files. */
#define TMB_SPILL_MEMORY (UINT64_C(1) << 30)

typedef struct tmb_spill {
    const char *folder; /* of the files; NULL: "." */
    uint64_t held;      /* bytes in memory */
    struct {
        void *at;
        size_t bytes; /* of a mapping; 0: malloc'ed */
    } arrays[TMB_SPILL_ARRAYS];
    size_t n;
} tmb_spill;

/* *out [n * width] elements of `size` bytes, zeroed, aligned to 64.  TMB_ECREATE when the disk has
 * no room. */
tmb_status tmb_spill_array(tmb_spill *spill, uint64_t n, uint64_t width, size_t size, void **out,
                           tmb_err *err) TMB_CHECKED;
void tmb_spill_close(tmb_spill *spill);

#endif
