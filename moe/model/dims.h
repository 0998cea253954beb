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

/* Layers, experts and experts a token; columns. */
enum { TMB_DIMS_COUNT_MAX = 1 << 16, TMB_DIMS_WIDTH_MAX = 1 << 30 };

/* config may be NULL.  Of a wrapper (text_config and the like) the text model's numbers.  TMB_EDATA
 * naming the key: a count that is no whole number (null is none) or over the limits above, more
 * experts a token than experts, a model_type that is no text, a text_config or quantization_config
 * that is no object. */
tmb_status tmb_dims_read(tmb_dims *out, const tmb_json *config, tmb_err *err) TMB_CHECKED;

#endif
