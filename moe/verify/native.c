/* native.c - published quantized sources: DeepSeek's FP8 blocks, E8M0 scales, gpt-oss's MXFP4.
 *
 * Their configurations name no layers: what a module is follows from the parts it has. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <string.h>

static const tmb_scheme fp8_block = {TMB_VK_FP8_BLOCK, TMB_VL_NATIVE, TMB_ACT_GROUP128, 128,
                                     "block FP8"};
static const tmb_scheme fp8_tensor = {TMB_VK_FP8, TMB_VL_NATIVE, TMB_ACT_NONE, 0, "FP8"};
static const tmb_scheme mxfp4 = {TMB_VK_MXFP4, TMB_VL_NATIVE, TMB_ACT_NONE, 32, "MXFP4"};

const tmb_scheme *tmb_native_meant(const tmb_verifier *v, const tmb_module *m)
{
    const tmb_tensor *w = tmb_module_part(v, m, TMB_VP_WEIGHT);
    if (m->part[TMB_VP_BLOCKS] != TMB_NO_TENSOR || m->part[TMB_VP_SCALES] != TMB_NO_TENSOR)
        return &mxfp4;
    if (m->part[TMB_VP_SCALE_INV] != TMB_NO_TENSOR) return &fp8_block;
    if (m->part[TMB_VP_E8M0] != TMB_NO_TENSOR)
        return w && (w->dtype == TMB_I8 || w->dtype == TMB_U8) ? &mxfp4 : &fp8_block;
    if (v->config.layout != TMB_VL_NATIVE || !w || tmb_is_plain((tmb_dtype)w->dtype)) return NULL;
    return tmb_json_get(v->config.quant, "weight_block_size") ? &fp8_block : &fp8_tensor;
}
