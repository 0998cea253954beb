/* parts.h - tensors that belong together: "X.weight", "X.weight_scale", … are module X. */
#ifndef TMB_MODEL_PARTS_H
#define TMB_MODEL_PARTS_H

#include "kernels/base/err.h"
#include "moe/io/checkpoint.h"
#include "moe/model/words.h"

/* What a tensor is to its module, by the end of its name. */
typedef enum tmb_kind {
    TMB_KIND_WEIGHT,       /* .weight */
    TMB_KIND_BARE,         /* no ending: a parameter, or a stack of experts */
    TMB_KIND_PACKED,       /* .weight_packed */
    TMB_KIND_BLOCKS,       /* _blocks (gpt-oss) */
    TMB_KIND_FOREIGN,      /* .qweight (AutoAWQ, GPTQ) */
    TMB_KIND_SCALE,        /* .weight_scale */
    TMB_KIND_SCALE_INV,    /* .weight_scale_inv */
    TMB_KIND_SCALE_SHORT,  /* .scale (DeepSeek-V4) */
    TMB_KIND_SCALES,       /* _scales (gpt-oss), .scales (AutoAWQ) */
    TMB_KIND_SCALE_2,      /* .weight_scale_2 */
    TMB_KIND_GLOBAL,       /* .weight_global_scale */
    TMB_KIND_INPUT,        /* .input_scale */
    TMB_KIND_INPUT_GLOBAL, /* .input_global_scale */
    TMB_KIND_SHAPE,        /* .weight_shape */
    TMB_KIND_ZERO,         /* .weight_zero_point, .weight_g_idx, .pre_quant_scale, .qzeros, .g_idx */
    TMB_KINDS
} tmb_kind;

/* The length of the module's name; *kind what is left says. */
size_t tmb_kind_of(const char *name, tmb_kind *kind);
const char *tmb_kind_ending(tmb_kind kind); /* "weight_scale": what to write in a message */

/* The modules of a checkpoint, in the order of their first tensors. */
typedef struct tmb_modules {
    tmb_words names;
    uint32_t *first; /* [names.n] a tensor of the module; next[] leads to its others */
    uint32_t *next;  /* [n_tensors] TMB_NO_TENSOR ends */
    uint8_t *kinds;  /* [n_tensors] */
} tmb_modules;

/* The tensors of one module by kind, NULL when absent; `more`: another tensor of a kind that is
 * taken (two endings that mean the same). */
typedef struct tmb_parts {
    const tmb_tensor *of[TMB_KINDS];
    uint32_t index[TMB_KINDS];
    uint32_t n; /* tensors in all */
} tmb_parts;

tmb_status tmb_modules_group(tmb_modules *out, const tmb_checkpoint *ckpt, tmb_err *err) TMB_CHECKED;
void tmb_modules_parts(const tmb_modules *modules, const tmb_checkpoint *ckpt, uint32_t module,
                       tmb_parts *out);
void tmb_modules_free(tmb_modules *modules);

#endif
