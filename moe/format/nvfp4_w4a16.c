/* nvfp4_w4a16.c - NVFP4 weights whose kernels keep the input in 16 bits: the bytes of nvfp4.c
 * without an activation scale. */
#include "config.h"
#include "moe/format/nvfp4.h"

const tmb_format tmb_format_nvfp4_w4a16 = {
    .name = "nvfp4-w4a16",
    .summary = "4-bit E2M1 weights as nvfp4, activations untouched",
    .col_multiple = 16,
    .act = TMB_ACT_NONE,
    .sharing = TMB_SHARE_FUSED,
    .can_mse = true,
    .bits = 4.5,
    .part = tmb_nvfp4_part,
    .global_scale = tmb_nvfp4_global,
    .encode = tmb_nvfp4_encode,
    .encode_weighted = tmb_nvfp4_encode_weighted,
    .decode = tmb_nvfp4_decode,
};
