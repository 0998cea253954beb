/* resolve_trt.c - what TensorRT-LLM makes of a layer: exact keys of hf_quant_config.json, a fused
 * layer by its first shard, experts by any key that contains their name.  From its source
 * (tensorrt_llm/_torch/model_config.py, apply_layerwise_quant_config); it was not run. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <string.h>

tmb_answer tmb_trt_modelopt(const tmb_verifier *v, const tmb_engine_layer *l)
{
    const tmb_mo_config *mo = v->config.mo;
    const tmb_module *first = &v->modules[l->modules[0]];
    tmb_answer a = {0};
    bool found = false;
    if (l->experts) {
        found = tmb_nameset_find(&mo->hf_layers, l->name) != TMB_NO_NAME ||
                tmb_nameset_below(&mo->hf_layers, l->name) != NULL;
    } else {
        found = tmb_nameset_find(&mo->hf_layers, first->name) != TMB_NO_NAME;
    }
    a.scheme = found ? first->meant : NULL;
    return a;
}
