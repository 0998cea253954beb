/* driver.h - which NVIDIA GPUs this machine has, asked of the driver alone.
 *
 * libcuda.so.1 is opened at run time, so a program built without CUDA can still tell, and one
 * built with it starts on a machine that has no driver. */
#ifndef TMB_CUDA_DRIVER_H
#define TMB_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef struct tmb_gpu {
    char name[96];
    int major, minor; /* compute capability */
    uint64_t bytes;   /* of device memory */
} tmb_gpu;

/* Fill gpus [max]; returns how many there are in it.  0: why [size] says why none. */
int tmb_gpus_find(tmb_gpu *gpus, int max, char *why, size_t size);

#endif
