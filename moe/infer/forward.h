/* forward.h - a model run layer by layer, holding one layer's weights at a time.
 *
 *     tmb_decoder_open(&d, model, &options, err);
 *     width = tmb_decoder_reach(d, longest);
 *     tmb_decoder_embed(d, ids, tokens, x, err);
 *     for (int l = 0; l < tmb_decoder_layers(d); l++) {
 *         tmb_decoder_load(d, l, err);
 *         tmb_decoder_run(d, &batch, err);            any number of batches
 *     }
 *     tmb_decoder_head(d, x, tokens, logits, err);
 *
 * A token's hidden state depends on its own sequence alone: however sequences are put into batches,
 * with any number of threads and on any instruction set, its bytes are the same. */
#ifndef TMB_INFER_FORWARD_H
#define TMB_INFER_FORWARD_H

#include "kernels/base/nn.h"
#include "kernels/base/ops.h"
#include "kernels/comm/comm.h"
#include "moe/infer/model_config.h"
#include "moe/infer/observe.h"

typedef struct tmb_decoder tmb_decoder;

typedef struct tmb_decoder_options {
    int threads;          /* 0: all that OpenMP would take */
    int ways;             /* how many neighbouring ranks of comm share the routed experts, each
                             reading its own (dispatch.h); 0 or 1: all are here */
    tmb_comm *comm;       /* of ways > 1, borrowed; its size is a multiple of ways.  NULL: the
                             decoder only reckons */
    uint64_t layer_bytes; /* host bytes a loaded layer may hold; 0: no limit.  Routed experts past
                             it are read again in each run, a group that fits at a time; below one
                             expert and the layer's other weights it cannot go */
    const tmb_ops *ops;   /* NULL: the best of this processor */
    const tmb_nn *nn;     /* likewise */
    tmb_hooks hooks;
} tmb_decoder_options;

/* Read config.json, find every tensor of the text model and check its shape.  TMB_EUNAVAILABLE for
 * an architecture whose forward pass is not there, naming it and what still works; TMB_EDATA for a
 * key or tensor that is missing or does not fit, naming it.  The model must outlive the decoder. */
tmb_status tmb_decoder_open(tmb_decoder **out, const tmb_model *model,
                            const tmb_decoder_options *options, tmb_err *err) TMB_CHECKED;
void tmb_decoder_close(tmb_decoder *d);
/* Change options.layer_bytes; counts from the next load on. */
void tmb_decoder_limit(tmb_decoder *d, uint64_t layer_bytes);

const tmb_config *tmb_decoder_config(const tmb_decoder *d);
const tmb_model *tmb_decoder_model(const tmb_decoder *d);
int tmb_decoder_layers(const tmb_decoder *d);
/* Whether the layer has a router and routed experts. */
bool tmb_decoder_is_sparse(const tmb_decoder *d, int layer);

/* Sequences will have at most `longest` tokens.  Gives the width of x's rows from now on, in
 * floats: a token's hidden state (all of them where a model keeps several residual streams), then
 * what layers hand on that is no number to anybody else.  Without this call it is that of sequences
 * of one token. */
size_t tmb_decoder_reach(tmb_decoder *d, size_t longest);
/* How many of these floats are the hidden state. */
size_t tmb_decoder_state(const tmb_decoder *d);

/* The weight of the norm in front of a layer's attention (half 0), or of its router and MLP (half
 * 1): [hidden] numbers. */
const tmb_tensor *tmb_decoder_norm(const tmb_decoder *d, int layer, int half);

/* x [n, width] f32 = embedding of ids [n].  TMB_EDATA for an id outside the vocabulary, naming its
 * place. */
tmb_status tmb_decoder_embed(tmb_decoder *d, const int32_t *ids, size_t n, float *x,
                             tmb_err *err) TMB_CHECKED;

/* Seconds on the clock since the decoder was opened, by what was done; each without the others. */
typedef struct tmb_spent {
    double read;      /* reading weights and putting them in order */
    double attention; /* first halves of layers, with their norm */
    double mlp;       /* second halves: routers, experts, dense MLPs */
    double shown;     /* in the observer */
} tmb_spent;
tmb_spent tmb_decoder_spent(const tmb_decoder *d);

/* Hold this layer's weights instead of the ones held before.  Routed experts are read when a run
 * has tokens for them, and stay. */
tmb_status tmb_decoder_load(tmb_decoder *d, int layer, tmb_err *err) TMB_CHECKED;

typedef struct tmb_batch {
    float *x;            /* [tokens, width] f32, in place: the layer's input, then its output */
    const size_t *begin; /* [sequences + 1]: sequence s is the rows begin[s] … begin[s+1]-1, and its
                            first token has position 0; begin[0] = 0 */
    size_t sequences;
    const tmb_observer *observer; /* NULL: nobody looks */
    const uint8_t *shadow; /* [n_experts]: non-zero for experts that are also shown all tokens of
                              the batch (llama4: by the weight the router would give); NULL: none */
} tmb_batch;

/* Run the loaded layer over the batch.  TMB_EDATA when a result is no finite number, naming the
 * layer.  Where ranks share experts a run of a sparse layer is collective: every rank calls it as
 * often as the others, with an empty batch when it has nothing left, and shows its observer the
 * rows of its experts, whoever sent them. */
tmb_status tmb_decoder_run(tmb_decoder *d, const tmb_batch *batch, tmb_err *err) TMB_CHECKED;

/* Give the loaded layer's weights back; nothing when none is loaded. */
void tmb_decoder_drop(tmb_decoder *d);

/* The loaded layer's router alone, on rows h [rows, hidden] as they enter it (behind the norm),
 * hooks included: what it says goes to the observer.  TMB_EINTERNAL when there is no router. */
tmb_status tmb_decoder_route(tmb_decoder *d, const float *h, size_t rows,
                             const tmb_observer *observer, tmb_err *err) TMB_CHECKED;

/* logits [rows, vocab] f32 of x [rows, width], with the final norm; NULL: only show the head's
 * input to the observer.  observer may be NULL. */
tmb_status tmb_decoder_head(tmb_decoder *d, const float *x, size_t rows, float *logits,
                            const tmb_observer *observer, tmb_err *err) TMB_CHECKED;

/* Host bytes that load and run of any layer, and head, need at most beside x and logits, for
 * batches of `tokens` tokens whose longest sequence has `longest`; shadow experts included. */
uint64_t tmb_decoder_bytes(const tmb_decoder *d, size_t tokens, size_t longest);

#endif
