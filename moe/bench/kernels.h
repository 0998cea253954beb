/* kernels.h - how fast one core turns weights into codes, without any disk.
 *
 * Rates are bytes of BF16 input a second on the calling thread, the best of several rounds over an
 * array that no private cache holds. */
#ifndef TMB_BENCH_KERNELS_H
#define TMB_BENCH_KERNELS_H

#include "kernels/base/err.h"
#include "kernels/base/progress.h"
#include "moe/format/format.h"

typedef struct tmb_kernel_rate {
    const tmb_format *format;
    tmb_scale_rule rule;
    double encode; /* BF16 to float32, scales, codes */
    double check;  /* codes to float32 again, and the sums of errors */
    double job;    /* all that a job does with a tile: its largest magnitude first, where the format
                      has a joint scale, then both of the above */
} tmb_kernel_rate;

enum { TMB_KERNEL_RATES = 32 };

/* Every format in the order of the registry, each with the scale rules that it offers.  rates
 * [TMB_KERNEL_RATES], *n of them are filled. */
tmb_status tmb_bench_kernels(const tmb_ops *ops, const tmb_watch *watch, tmb_kernel_rate *rates,
                             int *n, tmb_err *err) TMB_CHECKED;

/* Bytes a second that one core reads from memory and does nothing with, and that it copies
 * (counted once): what no kernel can beat. */
tmb_status tmb_bench_memory(double *read, double *copy, tmb_err *err) TMB_CHECKED;

#endif
