/* fuzz_forward - config.json and names, as the forward pass takes them.  What is taken has sizes
 * that can be multiplied, a kind for every layer, and angles that are finite. */
#include "config.h"
#include "moe/infer/model_config.h"
#include "tests/fuzz_folder.h"

#include <math.h>

static void check(const tmb_config *c)
{
    uint64_t n = 1;
    MUST(c->layers > 0 && c->layer && c->hidden > 0);
    MUST(tmb_mul(c->heads, c->head_dim, &n) && tmb_mul(n, c->hidden, &n));
    MUST(c->kv_heads <= c->heads && c->top_k <= c->n_experts);
    MUST(c->groups >= 1 && c->top_groups <= c->groups && isfinite(c->eps));
    for (int i = 0; i < c->layers; i++)
        MUST(c->layer[i].view <= TMB_VIEW_CHUNK);
    for (size_t i = 0; i < c->rope.dims / 2; i++)
        MUST(isfinite(c->rope.inv_freq[i]));
    MUST(isfinite(c->rope.factor) && isfinite(c->rope.softmax_factor));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_folder f;
    tmb_err err = {0};
    tmb_model *model = NULL;
    tmb_checkpoint *ckpt = folder_open(&f, data, size);
    if (ckpt && !tmb_model_open(&model, ckpt, NULL)) {
        tmb_config config = {0};
        tmb_status status = tmb_config_read(&config, model, &err);
        if (status)
            MUST((status == TMB_EDATA || status == TMB_EUNAVAILABLE) && *err.message &&
                 !strpbrk(err.message, "\n\033"));
        else
            check(&config);
        tmb_config_free(&config);
    }
    tmb_model_close(model);
    folder_close(&f, ckpt);
    return 0;
}
