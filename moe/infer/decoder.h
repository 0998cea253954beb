/* decoder.h - the inside of a decoder.  For moe/infer/ alone.
 *
 * bind.c finds the tensors, load.c reads them, multiply.c feeds the matrix product, blocks.c lists
 * what the first half of a layer may be (a file each), experts.c is the second half, dispatch.h is
 * where experts live, forward.c is the way through. */
#ifndef TMB_INFER_DECODER_H
#define TMB_INFER_DECODER_H

#include "moe/infer/forward.h"

/* How much is done at a time; memory.c reckons with them. */
enum {
    TMB_PART_TOKENS = 2048, /* whose queries are held; more when one sequence is longer */
    TMB_STEP_ROWS = 4096, /* of experts, at hand in one matrix product or under way between ranks */
    TMB_HEAD_PANELS = 256, /* of the head that are held */
};

/* Some numbers of a tensor, as float32 while a layer is loaded. */
typedef struct tmb_vector {
    const tmb_tensor *tensor; /* NULL: there is none */
    uint64_t first, step;     /* elements first, first+step, … */
    size_t n;
    bool from_one; /* what is stored is the distance from one */
    float *values; /* [n]; NULL while it is not loaded */
} tmb_vector;

/* A weight [out, in] with its bias. */
typedef struct tmb_weight {
    const tmb_unit *unit;     /* a Linear; NULL: none, or a plain table */
    const tmb_tensor *tensor; /* a plain [out, in] table that is no Linear: a tied embedding */
    uint32_t index;           /* of unit in the model; TMB_NONE */
    size_t out, in;
    bool bf16;         /* every value of it is one */
    tmb_packed packed; /* values NULL while it is not loaded */
    tmb_vector bias;
} tmb_weight;

/* Parts of an MLP.  In one without a gate the up projection takes the gate's place, and there is
 * nothing in its own. */
enum { TMB_GATE, TMB_UP, TMB_DOWN, TMB_MLP };

/* Weights and vectors that only one kind of block has; its file names their places. */
enum { TMB_OWN_WEIGHTS = 8, TMB_OWN_VECTORS = 8 };

/* What mixes residual streams in front of a half, or of the head; its file names the places. */
typedef struct tmb_mixing {
    tmb_weight w[3];
    tmb_vector v[2];
} tmb_mixing;

typedef struct tmb_run tmb_run;
typedef struct tmb_ple tmb_ple;
typedef struct tmb_binder tmb_binder;
typedef struct tmb_decoder_layer tmb_decoder_layer;

/* What the first half of a layer does: a kind of attention, or what stands for it. */
typedef struct tmb_block {
    /* Find the tensors of binder->layer. */
    tmb_status (*bind)(tmb_binder *b);
    /* out [tokens, hidden] = what the block gives for run->h. */
    tmb_status (*run)(tmb_run *run, float *out);
    /* What run holds at most beside run->h and out. */
    uint64_t (*bytes)(const tmb_decoder *d, const tmb_decoder_layer *l, uint64_t tokens,
                      uint64_t longest);
} tmb_block;

struct tmb_decoder_layer {
    int index;
    bool sparse;
    const tmb_block *block; /* of the first half; NULL: there is none */
    tmb_vector input_norm, post_norm, q_norm, k_norm,
        sinks; /* MLA: q_a_layernorm, kv_a_layernorm */
    /* GQA: q, k, v, o.  MLA: q_a (or none), q (from q_a, or from the input), kv_a, kv_b, o. */
    tmb_weight q_a, q, k, v, kv_a, kv_b, o;
    tmb_weight mlp[TMB_MLP]; /* of a dense layer the MLP, of a sparse one the shared experts */
    tmb_weight shared_gate, router;
    tmb_weight latent[2]; /* into latent experts, and out of them */
    tmb_vector correction;
    const tmb_tensor *hash_table; /* the experts of each token id, NULL: the router chooses */
    int64_t *hash;                /* [vocab, top_k] while it is loaded */
    tmb_mixing mixing[2];         /* of the two halves */
    tmb_ple *ple;                 /* n-grams that are added in front, NULL: none */
    tmb_weight own[TMB_OWN_WEIGHTS];
    tmb_vector own_vector[TMB_OWN_VECTORS];
    tmb_weight *experts; /* [n_experts][TMB_MLP] */
};

/* Angles of positions: [positions, dims / 2] each. */
typedef struct tmb_turns {
    float *cosines, *sines, *back; /* back: the sines of turning back */
} tmb_turns;

struct tmb_decoder {
    const tmb_model *model;
    tmb_config config;
    tmb_hooks hooks;
    const tmb_ops *ops;
    const tmb_nn *nn;
    int threads;
    struct tmb_comm *comm; /* whose ranks share the experts; NULL: they are all here */
    int ways, member;      /* ranks that share them, and which of them this is */
    uint64_t layer_bytes;
    tmb_decoder_layer *layers; /* [config.layers] */
    tmb_vector final_norm;
    const tmb_tensor *embedding;
    tmb_weight head;
    tmb_decoder_layer *loaded;   /* NULL: none */
    size_t group;                /* slots (dispatch.h) whose experts are held at a time */
    size_t held_first, held_end; /* the slots of which some are held now */
    float *packed_rows;          /* scratch of multiply.c */
    size_t packed_room;          /* floats */
    size_t longest, width;       /* of tmb_decoder_reach() */
    tmb_mixing last_mixing;
    tmb_turns turns[2]; /* of config.rope and config.second_rope */
    size_t positions;
    tmb_spent spent;
    tmb_arena arena; /* of layers */
};

/* What is the same during one run of a layer. */
struct tmb_run {
    tmb_decoder *d;
    const tmb_batch *batch;
    const tmb_observer *observer; /* never NULL */
    const tmb_decoder_layer *layer;
    size_t tokens;
    float *h;              /* [tokens, hidden] the normed input of a half */
    const float *expert_x; /* [tokens, expert_in] what routed experts read: h, or latent */
    const float *read;     /* [tokens, hidden] what the norm in front of it reads */
    float *copy;           /* read, where x has other things between its rows */
    float *mix;            /* [tokens, tmb_mix_floats()] what a half gives goes back by it */
    tmb_err *err;
};

/* --- bind.c --- */
tmb_status tmb_decoder_bind(tmb_decoder *d, tmb_err *err) TMB_CHECKED;

/* --- load.c --- */
/* All of a mixing, and give it back. */
tmb_status tmb_mixing_load(tmb_decoder *d, tmb_mixing *m, tmb_err *err) TMB_CHECKED;
void tmb_mixing_drop(tmb_mixing *m);
/* All of the layer but its routed experts. */
tmb_status tmb_decoder_layer_load(tmb_decoder *d, tmb_decoder_layer *layer,
                                  tmb_err *err) TMB_CHECKED;
/* Hold experts of slots first … end-1 of the loaded layer, and no others: those that are wanted
 * [end - first] are read when they are not there yet. */
tmb_status tmb_experts_load(tmb_decoder *d, size_t first, size_t end, const bool *wanted,
                            tmb_err *err) TMB_CHECKED;
void tmb_decoder_layer_drop(tmb_decoder *d);
/* Rows of w, panel by panel, into to, whose values are there: panels first … first+n-1 of the
 * weight become its first n. */
tmb_status tmb_weight_load_panels(tmb_decoder *d, const tmb_weight *w, const tmb_packed *to,
                                  size_t first, size_t panels, tmb_err *err) TMB_CHECKED;
tmb_status tmb_vector_load(const tmb_decoder *d, tmb_vector *v, tmb_err *err) TMB_CHECKED;
uint64_t tmb_weight_bytes(const tmb_weight *w);                        /* 0 when there is none */
uint64_t tmb_decoder_layer_base_bytes(const tmb_decoder_layer *layer); /* without routed experts */
uint64_t tmb_expert_bytes(const tmb_decoder *d, const tmb_decoder_layer *layer, size_t expert);

/* --- multiply.c --- */
/* y [rows, w->out] = x [rows, w->in] * w + bias.  Rows have the distances x_stride, y_stride. */
typedef struct tmb_product {
    const tmb_weight *w;
    const float *x;
    size_t rows, x_stride;
    float *y;
    size_t y_stride;
} tmb_product;
/* Of x [rows, w->in] and y [rows, w->out] without gaps. */
tmb_product tmb_product_of(const tmb_weight *w, const float *x, size_t rows, float *y);
/* All of them at once: consecutive ones with the same x share the work of packing it. */
tmb_status tmb_multiply(tmb_decoder *d, const tmb_product *products, size_t n,
                        tmb_err *err) TMB_CHECKED;
/* One, in pieces that keep the scratch small. */
tmb_status tmb_multiply_long(tmb_decoder *d, const tmb_product *product, tmb_err *err) TMB_CHECKED;
uint64_t tmb_multiply_bytes(size_t rows,
                            size_t in); /* of the scratch; pieces of tmb_multiply_long */
/* Call work(ctx, row) for all rows, in all threads. */
void tmb_each_row(const tmb_decoder *d, size_t rows, void (*work)(void *ctx, size_t row),
                  void *ctx);
/* y [rows] = rms_norm of x [rows], n numbers each; rows are stride apart in both. */
void tmb_norm_rows(const tmb_decoder *d, float *y, const float *x, const tmb_vector *weight,
                   size_t rows, size_t n, size_t stride, float eps);
/* The sequences from `first` on that are done at a time: the end of them. */
size_t tmb_part_end(const tmb_batch *b, size_t first);
/* Tokens of the longest sequence. */
size_t tmb_longest(const tmb_batch *b);
/* Tokens of the largest part. */
size_t tmb_part_most(const tmb_batch *b);
/* y [rows, w->out] = x [rows, w->in] * w + bias, all of it. */
tmb_status tmb_project(tmb_run *run, const tmb_weight *w, const float *x, size_t rows,
                       float *y) TMB_CHECKED;
/* malloc of n * width floats, NULL with an error. */
float *tmb_floats(size_t n, size_t width, tmb_err *err);

/* --- enter.c --- */
/* What run's layer shows of rows that are all of the batch's tokens. */
tmb_linear_seen tmb_seen_of(const tmb_run *run, const float *x, size_t in);
/* y [tokens, w->out] = w of x [tokens, w->in], shown and perhaps changed before. */
tmb_status tmb_enter_one(tmb_run *run, const tmb_weight *w, const float *x, float *y) TMB_CHECKED;
/* Show it to the observer, if that looks at such things; its time is kept apart. */
tmb_status tmb_show_router(const tmb_run *run, const tmb_router_seen *seen) TMB_CHECKED;
tmb_status tmb_show_kv(const tmb_run *run, const tmb_kv_seen *seen) TMB_CHECKED;
/* Show the rows that enter the weights (n <= 6), and let the hook change them: *use is what to
 * compute with, entering->x or *owned, which the caller frees.  entering->units is not asked. */
tmb_status tmb_enter(const tmb_run *run, const tmb_weight *const *weights, size_t n,
                     const tmb_linear_seen *entering, const float **use, float **owned) TMB_CHECKED;

/* --- blocks.c --- */
const tmb_block *tmb_block_of(const tmb_config *c, int layer);

/* --- residual.c --- */
size_t tmb_state_floats(const tmb_config *c); /* of a token's hidden state */
/* Words of 64 bits that say which keys the last indexer chose, and are handed on; 0: they are not.
 */
size_t tmb_seen_words(const tmb_decoder *d);
/* Put them [tokens, words] into the rows of x, and take them out. */
void tmb_hand_seen(const tmb_decoder *d, float *x, const uint64_t *seen, size_t tokens);
void tmb_handed_seen(const tmb_decoder *d, const float *x, uint64_t *seen, size_t tokens);
void tmb_hand_id(const tmb_decoder *d, float *row, int32_t id);
int32_t tmb_handed_id(const tmb_decoder *d, const float *row);
/* run->h and run->read: what enters a half, through its norm. */
tmb_status tmb_residual_read(tmb_run *run, int half, const tmb_vector *norm) TMB_CHECKED;
/* What a half gave [tokens, hidden] goes back. */
tmb_status tmb_residual_write(tmb_run *run, int half, const float *out) TMB_CHECKED;
/* h [rows, hidden] = what enters the head. */
tmb_status tmb_residual_last(tmb_decoder *d, float *h, const float *x, size_t rows,
                             tmb_err *err) TMB_CHECKED;
/* x [rows, width] from the embeddings [rows, hidden] that stand at the rows' beginnings. */
void tmb_residual_begin(const tmb_decoder *d, float *x, size_t rows);
/* Floats of a token's run->mix; bytes that reading and writing take beside it. */
size_t tmb_mix_floats(const tmb_config *c);
uint64_t tmb_residual_bytes(const tmb_decoder *d, uint64_t tokens);
/* Streams of their own kind: manifold.c, hyper.c. */
struct tmb_binder;
typedef struct tmb_streaming {
    tmb_status (*bind)(struct tmb_binder *b);      /* of binder->layer */
    tmb_status (*bind_last)(struct tmb_binder *b); /* of the head */
    tmb_status (*enter)(tmb_run *run);             /* in front of a layer; NULL: nothing is done */
    /* read [rows, hidden] of x [rows, width]; mix [rows, tmb_mix_floats()]. */
    tmb_status (*read)(tmb_decoder *d, const tmb_mixing *m, const float *x, size_t rows,
                       float *read, float *mix, tmb_err *err);
    tmb_status (*write)(tmb_decoder *d, float *x, const float *out, const float *mix, size_t rows,
                        tmb_err *err);
    tmb_status (*last)(tmb_decoder *d, float *h, const float *x, size_t rows, tmb_err *err);
    size_t (*mix_floats)(const tmb_config *c);
    uint64_t (*bytes)(const tmb_decoder *d, uint64_t rows);
} tmb_streaming;
const tmb_streaming *tmb_streaming_of(const tmb_config *c); /* NULL: one stream */

/* --- memory.c --- */
/* Sums that stay at the top, and bytes of [n, width] float32. */
uint64_t tmb_bytes_add(uint64_t a, uint64_t b);
uint64_t tmb_bytes_floats(uint64_t n, uint64_t width);

/* --- attend.c --- */
/* Softmax attention of whole sequences.  q [tokens, heads, head_dim], heads q_step and tokens
 * q_stride apart (q_step 0: side by side); the j-th key and value head
 * of a token at k + j*k_step and v + j*v_step, tokens k_stride and v_stride apart; k_tail (NULL:
 * none) [tokens, tail_dim] follows each head's key and is the same for all.  out [tokens, heads,
 * v_dim]. */
typedef struct tmb_attend {
    const float *q, *k, *v, *k_tail;
    size_t q_step, q_stride, k_step, k_stride, v_step, v_stride, k_dim, tail_dim, tail_stride;
    size_t heads, kv_heads, head_dim, v_dim;
    const size_t *begin; /* [sequences + 1] */
    size_t sequences;
    const float *sinks; /* [heads] or NULL */
    /* Behind every `ratio` tokens of a sequence stands one key more, which the last of these tokens
     * sees and those after it; k and v then have the keys of sequence s from row key_begin[s] on,
     * in this order.  0: there are none. */
    size_t ratio;
    const size_t *key_begin;
    /* Which keys a query sees beside what the view leaves, bit by bit [tokens, masks, mask_words],
     * the mask of key head i being i modulo masks; NULL: all. */
    const uint64_t *seen;
    size_t masks, mask_words;
    tmb_view view;
    size_t reach; /* of window or chunk */
    float scale;
    float *out;
} tmb_attend;
tmb_status tmb_attend_run(const tmb_decoder *d, const tmb_attend *a, tmb_err *err) TMB_CHECKED;
uint64_t tmb_attend_bytes(const tmb_config *c, size_t longest); /* for one thread */

/* --- route.c --- */
/* One token: choice [n_experts] from finite logits, chosen [top_k] ascending, weight [top_k]; true
 * when the choice was a tie.  score: room for 2 * n_experts floats; correction may be NULL. */
bool tmb_route(const tmb_config *c, const tmb_nn *nn, const float *logits, const float *correction,
               float *choice, float *score, uint32_t *chosen, float *weight);
/* The same of a token whose id says its experts [top_k]. */
void tmb_route_hashed(const tmb_config *c, const tmb_nn *nn, const float *logits,
                      const int64_t *experts, float *choice, uint32_t *chosen, float *weight);
/* weight [top_k] that these logits give to experts chosen by somebody else.  score: as above. */
void tmb_route_again(const tmb_config *c, const tmb_nn *nn, const float *logits, float *score,
                     const uint32_t *chosen, float *weight);

/* --- mlp.c --- */
/* y [tokens, hidden] = the MLP of all tokens: a dense layer's, or the shared experts'. */
tmb_status tmb_run_whole(tmb_run *run, float *y) TMB_CHECKED;
/* gate [rows, width] = act(gate, up). */
void tmb_gate_rows(const tmb_decoder *d, float *gate, float *up, size_t rows, size_t width);

/* --- experts.c --- */
/* out [tokens, hidden] = what the dense MLP, or the shared and routed experts, give for run->h. */
tmb_status tmb_run_mlp(tmb_run *run, float *out) TMB_CHECKED;

#endif
