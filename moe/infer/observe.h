/* observe.h - what a forward pass shows to whoever counts, and where it may be changed.
 *
 * Callbacks run on the thread that called tmb_decoder_run(), one at a time, in an order that the
 * model alone decides: layer by layer; in a layer attention's inputs, k and v, the output
 * projection, the router, shared experts, then routed experts ascending.  Within one run of a layer
 * a Linear is shown at most once natively and once as a shadow, an expert with many rows in several
 * parts; an expert that got no token is not shown.  What a row holds does not depend on the other
 * rows of the batch, on threads or on the instruction set. */
#ifndef TMB_INFER_OBSERVE_H
#define TMB_INFER_OBSERVE_H

#include "kernels/base/err.h"
#include "moe/model/weight.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Rows that enter one or several Linears (q, k and v; gate and up). */
typedef struct tmb_linear_seen {
    const uint32_t *units; /* indices into tmb_model.units, ascending in q, k, v / gate, up order */
    uint32_t n_units;
    int32_t layer;  /* -1: the head */
    int32_t expert; /* -1: no routed expert */
    const float *x; /* [rows, in] f32, before any activation hook */
    size_t rows;
    uint64_t in;
    const uint32_t *token; /* [rows], ascending: which token of the batch; NULL: row i is token i,
                              or, where ranks share experts, any rank's tokens */
    const float *gate; /* [rows] what multiplies the expert's output (of llama4, its input, already
                          done); NULL when this is no routed expert, or a shadow */
    bool shadow;       /* all tokens, sent or not; what the expert gives is thrown away */
} tmb_linear_seen;

/* One layer's routing of the batch. */
typedef struct tmb_router_seen {
    uint32_t unit;
    int32_t layer;
    size_t tokens, n_experts, top_k;
    const float *logits; /* [tokens, n_experts] the router's output, with its bias if it has one */
    const float *choice; /* [tokens, n_experts] what was compared: softmax, sigmoid + correction, or
                            the logits themselves; -inf where a group was not chosen */
    const uint32_t *chosen; /* [tokens, top_k] ascending */
    const float *weight;    /* [tokens, top_k] what multiplies the expert, all scaling included */
    size_t ties; /* tokens whose last chosen expert and best other one are exactly level */
} tmb_router_seen;

/* What the cache of a layer would hold for the batch, after norms and rotation. */
typedef struct tmb_kv_seen {
    int32_t layer;
    size_t tokens;
    const float *k; /* [tokens, k_width]; of MLA the normed latent followed by the rotated part */
    const float *v; /* [tokens, v_width]; of MLA NULL: it is in the latent */
    size_t k_width, v_width;
} tmb_kv_seen;

/* Which keys sparse attention looks at. */
typedef struct tmb_index_seen {
    int32_t layer;
    size_t tokens;
    /* [tokens, masks, words] bit by bit: key (of a block or compressed ones: number) i of the
     * token's sequence.  masks: 1, or one for each key head. */
    const uint64_t *seen;
    size_t masks, words;
} tmb_index_seen;

/* Any of them may be NULL.  A status other than TMB_OK ends the run with it. */
typedef struct tmb_observer {
    tmb_status (*linear)(void *ctx, const tmb_linear_seen *seen, tmb_err *err);
    tmb_status (*router)(void *ctx, const tmb_router_seen *seen, tmb_err *err);
    tmb_status (*kv)(void *ctx, const tmb_kv_seen *seen, tmb_err *err);
    tmb_status (*index)(void *ctx, const tmb_index_seen *seen, tmb_err *err);
    void *ctx;
} tmb_observer;

/* Where the computation may be changed: another decode of a weight, quantized activations.  Any of
 * them may be NULL.  weight is called from several threads at once, each with a reader of its own;
 * the others as an observer is. */
typedef struct tmb_hooks {
    /* y [rows, unit->in] = the rows to compute with, instead of tmb_reader_rows(), whose terms hold
     * here too.  Called for each Linear but a head or router that is no plain Linear. */
    tmb_status (*weight)(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                         size_t rows, float *y, tmb_err *err);
    /* y [rows, in] = what the Linear computes with instead of x [rows, in]; *changed false (it
     * comes false): x as it is, y was not written.  units share the input and the answer. */
    tmb_status (*activation)(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                             tmb_err *err);
    /* k and v of tmb_kv_seen, to be changed in place before attention reads them. */
    tmb_status (*kv)(void *ctx, const tmb_kv_seen *seen, float *k, float *v, tmb_err *err);
    /* values [n] = elements first, first + step, … of a tensor that is no Linear's weight (a norm,
     * a bias, sinks, a router's correction), to be changed in place when they were read.  Called
     * from several threads at once. */
    tmb_status (*vector)(void *ctx, const tmb_tensor *tensor, uint64_t first, uint64_t step,
                         size_t n, float *values, tmb_err *err);
    /* Other experts for the batch: chosen [tokens, top_k] comes as the router chose and is what the
     * observer saw; when *changed, what the hook left there runs instead (of each token ascending
     * and all different), with the weights that this layer's own logits give to those experts. */
    tmb_status (*route)(void *ctx, const tmb_router_seen *seen, uint32_t *chosen, bool *changed,
                        tmb_err *err);
    void *ctx;
} tmb_hooks;

#endif
