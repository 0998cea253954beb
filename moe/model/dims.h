/* dims.h - the few numbers of config.json that the inventory needs, under all their names. */
#ifndef TMB_MODEL_DIMS_H
#define TMB_MODEL_DIMS_H

#include "moe/io/json.h"
#include "moe/model/arch.h"

#include <stdint.h>

typedef struct tmb_dims {
    const char *model_type; /* "" when the config says none; borrowed */
    const tmb_arch *arch;   /* NULL when no table answers to model_type */
    int layers, experts, top_k; /* 0: not said */
    uint64_t hidden, expert_width;
} tmb_dims;

/* The part of config that tells of the text model: text_config and the like, else config itself.
 * config may be NULL. */
const tmb_json *tmb_dims_text(const tmb_json *config);

/* config may be NULL.  Of a wrapper (text_config and the like) the text model's numbers. */
void tmb_dims_read(tmb_dims *out, const tmb_json *config);

#endif
