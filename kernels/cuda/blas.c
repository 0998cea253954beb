/* blas.c - four functions of cuBLAS by name (cuBLAS documentation, cublasGemmEx). */
#include "config.h"
#include "kernels/cuda/blas.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { OP_N = 0, TYPE_BF16 = 14, COMPUTE_32F = 68, ALGO_DEFAULT = -1, TIMES = 11 };

typedef struct blas {
    void *shared, *handle; /* of dlopen, of cuBLAS */
    int (*create)(void **);
    int (*destroy)(void *);
    int (*stream)(void *, void *);
    int (*gemm)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *,
                int, int, const void *, void *, int, int, int, int);
} blas;

static int symbol(void *shared, const char *name, void *function)
{
    void *at = dlsym(shared, name);
    memcpy(function, &at, sizeof at);
    return at != NULL;
}

static int load(blas *b)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
    for (size_t i = 0; i < 3 && !b->shared; i++)
        b->shared = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return b->shared && symbol(b->shared, "cublasCreate_v2", &b->create) &&
           symbol(b->shared, "cublasDestroy_v2", &b->destroy) &&
           symbol(b->shared, "cublasSetStream_v2", &b->stream) &&
           symbol(b->shared, "cublasGemmEx", &b->gemm) && b->create(&b->handle) == 0;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static tmb_status measure(blas *b, tmb_cuda *gpu, const void *x, const void *y, void *z, int n,
                          double *us, tmb_err *err)
{
    const float one = 1.0f, zero = 0.0f;
    float all[TIMES + 2];
    TRY(tmb_cuda_graph_begin(gpu, err));
    int failed = b->stream(b->handle, tmb_cuda_stream(gpu)) ||
                 b->gemm(b->handle, OP_N, OP_N, n, n, n, &one, x, TYPE_BF16, n, y, TYPE_BF16, n,
                         &zero, z, TYPE_BF16, n, COMPUTE_32F, ALGO_DEFAULT);
    TRY(tmb_cuda_graph_end(gpu, err));
    if (failed) return TMB_OK;
    TRY(tmb_cuda_graph_time(gpu, all, TIMES + 2, err));
    qsort(all + 2, TIMES, sizeof *all, by_value);
    *us = (double)all[2 + TIMES / 2];
    return TMB_OK;
}

tmb_status tmb_cuda_matmul(tmb_cuda *gpu, const void *a, const void *b, void *c, int side,
                           double *us, tmb_err *err)
{
    blas lib = {0};
    *us = 0;
    tmb_status status = load(&lib) ? measure(&lib, gpu, a, b, c, side, us, err) : TMB_OK;
    if (lib.handle) lib.destroy(lib.handle);
    if (lib.shared) dlclose(lib.shared);
    return status;
}
