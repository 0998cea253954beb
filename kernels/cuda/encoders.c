#include "config.h"
#include "kernels/cuda/quantize.h"

#include <string.h>

tmb_encoder tmb_encoder_find(const char *format)
{
    static const struct {
        const char *format;
        tmb_encoder encoder;
    } known[] = {
        {"nvfp4", TMB_ENC_NVFP4},         {"nvfp4-w4a16", TMB_ENC_NVFP4},
        {"mxfp4", TMB_ENC_MXFP4},         {"mxfp8", TMB_ENC_MXFP8},
        {"int4", TMB_ENC_INT4_G128},      {"int4-g32", TMB_ENC_INT4_G32},
        {"fp8", TMB_ENC_FP8_TENSOR},      {"fp8-channel", TMB_ENC_FP8_CHANNEL},
        {"fp8-block", TMB_ENC_FP8_BLOCK},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(format, known[i].format) == 0) return known[i].encoder;
    return TMB_ENCODERS;
}
