/* shapes.h - the models whose proportions synthetic checkpoints have. */
#ifndef TMB_BENCH_SHAPES_H
#define TMB_BENCH_SHAPES_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tmb_shape {
    const char *name;       /* "qwen3-30b-a3b" */
    const char *model_type; /* as config.json has it */
    const char *class_name; /* "architectures" */
    uint32_t layers, dense; /* layers in all; the first ones that have no experts */
    uint32_t experts, top_k, shared;
    uint32_t hidden, inter, moe_inter, vocab;
    uint32_t heads, kv_heads, head_dim;
    /* latent attention; 0: plain */
    uint32_t q_rank, kv_rank, rope_dim, value_dim;
} tmb_shape;

/* NULL when there is none of that name; names [n] for a message. */
const tmb_shape *tmb_shape_find(const char *name);
const tmb_shape *tmb_shape_at(int i); /* NULL after the last */

/* Bytes of all weights in BF16. */
uint64_t tmb_shape_bytes(const tmb_shape *shape);
/* The same model with fewer layers, a smaller vocabulary, then fewer experts, then halved widths, so
 * that it has about `bytes`; widths stay as they are while top-k experts and one layer fit. */
tmb_shape tmb_shape_scaled(const tmb_shape *shape, uint64_t bytes);

/* Calls visit for every tensor in the order of the files; rows 0: a vector of cols. */
typedef struct tmb_shape_tensor {
    const char *name;
    uint64_t rows, cols;
    bool f32;    /* else BF16 */
    bool routes; /* a router's weight, or the embedding: what tokens are routed by */
} tmb_shape_tensor;
/* A status other than 0 ends the walk and is returned. */
int tmb_shape_walk(const tmb_shape *shape, int (*visit)(void *ctx, const tmb_shape_tensor *t),
                   void *ctx);

#endif
