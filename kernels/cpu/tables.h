/* tables.h - the tables of this folder, for cpu.c alone. */
#ifndef TMB_CPU_TABLES_H
#define TMB_CPU_TABLES_H

#include "kernels/base/nn.h"
#include "kernels/base/ops.h"

extern const tmb_ops tmb_ops_ref;
extern const tmb_ops tmb_ops_avx2;
extern const tmb_ops tmb_ops_avx512;
extern const tmb_ops tmb_ops_neon;
extern const tmb_nn tmb_nn_ref;
extern const tmb_nn tmb_nn_avx2;
extern const tmb_nn tmb_nn_avx512;

#endif
