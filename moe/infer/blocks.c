/* blocks.c - the kinds of first halves of a layer, a file each. */
#include "config.h"
#include "moe/infer/decoder.h"

extern const tmb_block tmb_block_gqa, tmb_block_mla, tmb_block_delta, tmb_block_mamba,
    tmb_block_compressed;

static const tmb_block *const attentions[] = {
    [TMB_ATTENTION_GQA] = &tmb_block_gqa,
    [TMB_ATTENTION_MLA] = &tmb_block_mla,
    [TMB_ATTENTION_COMPRESSED] = &tmb_block_compressed,
};

static const tmb_block *const kinds[] = {
    [TMB_LAYER_ATTENTION] = NULL, /* the one of the architecture */
    [TMB_LAYER_DELTA] = &tmb_block_delta,
    [TMB_LAYER_MAMBA] = &tmb_block_mamba,
};

const tmb_block *tmb_block_of(const tmb_config *c, int layer)
{
    const tmb_block *own = kinds[c->layer[layer].kind];
    return own ? own : attentions[c->rules->attention];
}
