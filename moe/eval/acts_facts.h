/* acts_facts.h - what is known of the inputs of Linears, between those who find it out
 * (acts_open.c of a checkpoint, moe/fly/acts.c of a plan) and acts.c, which rounds by it. */
#ifndef TMB_EVAL_ACTS_FACTS_H
#define TMB_EVAL_ACTS_FACTS_H

#include "moe/eval/acts.h"
#include "moe/io/json.h"

struct tmb_acts {
    const tmb_model *model;
    const tmb_ops *ops;
    const tmb_format *nvfp4, *mxfp8;
    uint8_t *act; /* [n_units] tmb_act */
    float *input; /* [n_units] scale; 0: none stored */
    float *k, *v; /* [n_layers] scale of the cache; 0: it is not quantized */
    bool any;
    uint8_t *codes, *scales; /* scratch for TMB_TILE_ROWS rows of `room` columns */
    float *work;
    size_t room;
};

/* Nothing is rounded yet. */
tmb_status tmb_acts_new(tmb_acts **out, const tmb_model *model, const tmb_ops *ops,
                        tmb_err *err) TMB_CHECKED;
/* Linear u has this format; input: what multiplies its codes, 0 when none is stored. */
void tmb_acts_set(tmb_acts *acts, uint32_t u, const tmb_format *format, float input);
/* *scale = the one float that the tensor holds.  TMB_EDATA when it is not positive and finite. */
tmb_status tmb_acts_number(const tmb_acts *acts, const tmb_tensor *tensor, float *scale,
                           tmb_err *err) TMB_CHECKED;
/* When the configuration says that the cache is quantized: find() gives the scale stored under a
 * name, or leaves *scale alone, which is 1. */
tmb_status tmb_acts_cache(tmb_acts *acts, const tmb_json *config,
                          tmb_status (*find)(void *ctx, const char *name, bool *found, float *scale,
                                             tmb_err *err),
                          void *ctx, tmb_err *err) TMB_CHECKED;

#endif
