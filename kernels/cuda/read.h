/* read.h - the floor: how fast this GPU only reads. */
#ifndef TMB_CUDA_READ_H
#define TMB_CUDA_READ_H

#include "kernels/base/err.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Launch a kernel that reads bytes (a multiple of 16) from memory and keeps nothing; sink: 4 bytes
 * of device memory. */
tmb_status tmb_cuda_read(const void *memory, uint64_t bytes, void *sink, void *stream,
                         tmb_err *err) TMB_CHECKED;

/* Copy bytes (a multiple of 16) by a plain kernel: the ceiling of what reads and writes as much. */
tmb_status tmb_cuda_copy_plain(void *to, const void *from, uint64_t bytes, void *stream,
                               tmb_err *err) TMB_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
