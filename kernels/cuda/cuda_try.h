/* cuda_try.h - errors of the CUDA runtime as ours; for the C files that call it. */
#ifndef TMB_CUDA_CUDA_TRY_H
#define TMB_CUDA_CUDA_TRY_H

#include "kernels/base/err.h"

#include <cuda_runtime_api.h>

static inline tmb_status tmb_cuda_fail(tmb_err *err, cudaError_t error, const char *what)
{
    tmb_status status = error == cudaErrorMemoryAllocation ? TMB_ESYSTEM : TMB_EUNAVAILABLE;
    return tmb_fail(err, status, "CUDA: %s: %s", what, cudaGetErrorString(error));
}

#define CUDA_TRY(err, call, what)                                                                  \
    do {                                                                                           \
        cudaError_t cuda_error_ = (call);                                                          \
        if (cuda_error_ != cudaSuccess) return tmb_cuda_fail(err, cuda_error_, what);              \
    } while (0)

#endif
