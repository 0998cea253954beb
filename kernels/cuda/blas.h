/* blas.h - what cuBLAS sustains here, asked of the library if the machine has one: it is opened at
 * run time and nothing depends on it. */
#ifndef TMB_CUDA_BLAS_H
#define TMB_CUDA_BLAS_H

#include "kernels/cuda/device.h"

/* *us = median time of c = a b for BF16 matrices [side, side] in device memory; 0 when cuBLAS is
 * not there. */
tmb_status tmb_cuda_matmul(tmb_cuda *gpu, const void *a, const void *b, void *c, int side,
                           double *us, tmb_err *err) TMB_CHECKED;

#endif
