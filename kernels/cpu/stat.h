/* stat.h - the tables of statistics operations of this processor. */
#ifndef TMB_CPU_STAT_H
#define TMB_CPU_STAT_H

#include "kernels/base/stat.h"

/* The table that goes with tmb_cpu_ops(): the best, or what TOMBAC_CPU asks for. */
const tmb_stat *tmb_cpu_stat(void);
/* The i-th table that can run here (the reference is 0), NULL at the end. */
const tmb_stat *tmb_cpu_stat_at(int i);

extern const tmb_stat tmb_stat_ref, tmb_stat_avx2, tmb_stat_avx512;

#endif
