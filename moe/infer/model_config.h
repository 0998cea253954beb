/* model_config.h - what config.json says of the computation, checked.
 *
 * All numbers are hostile: each has limits, and an error names the file and the key.  What the
 * tensors show (which layers are sparse, which biases there are) is not asked here but in bind.c.
 * Rules: transformers 5.17, models/<type>/configuration_*.py and modeling_rope_utils.py, but for
 * minimax_m2's rotary_dim, which counts. */
#ifndef TMB_INFER_MODEL_CONFIG_H
#define TMB_INFER_MODEL_CONFIG_H

#include "kernels/base/err.h"
#include "moe/model/model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum tmb_rope_kind {
    TMB_ROPE_DEFAULT,
    TMB_ROPE_LINEAR,
    TMB_ROPE_DYNAMIC, /* as default up to max_positions; longer sequences are refused */
    TMB_ROPE_YARN,
    TMB_ROPE_LLAMA3,
} tmb_rope_kind;

typedef struct tmb_rope {
    tmb_rope_kind kind;
    size_t dims;           /* how many of a head's dimensions turn; even */
    bool paired;           /* neighbours turn together, else the halves */
    float *inv_freq;       /* [dims / 2] */
    float factor;          /* of cos and sin */
    double softmax_factor; /* of the softmax scale: DeepSeek's mscale^2 */
} tmb_rope;

/* Which keys a query sees beside causality. */
typedef enum tmb_view { TMB_VIEW_FULL, TMB_VIEW_WINDOW, TMB_VIEW_CHUNK } tmb_view;

/* What the first half of a layer is. */
typedef enum tmb_layer_kind {
    TMB_LAYER_ATTENTION,
    TMB_LAYER_MAMBA,
    TMB_LAYER_DELTA,
} tmb_layer_kind;

/* Nemotron-H's layers are half of what others call one. */
typedef enum tmb_halves { TMB_HALVES_BOTH, TMB_HALVES_FIRST, TMB_HALVES_SECOND } tmb_halves;

typedef struct tmb_layer_config {
    tmb_layer_kind kind;
    tmb_halves halves;
    tmb_view view;
    bool grams;   /* adds n-grams of ids in front (PLE) */
    bool indexes; /* has an indexer of its own */
    bool second;  /* turns by the second rope */
    bool hashed;  /* a token's id says which experts it goes to */
    size_t ratio; /* of compressed attention: tokens of a window; 0: none */
    bool rope;    /* llama4 has layers without */
} tmb_layer_config;

typedef struct tmb_config {
    const struct tmb_arch_forward *rules;
    const char *file; /* "PATH/config.json", for messages */
    size_t hidden, vocab, max_positions;
    int layers;
    size_t heads, kv_heads, head_dim;                  /* GQA */
    size_t q_rank, kv_rank, nope_dim, rope_dim, v_dim; /* MLA; q_rank 0: one projection */
    bool output_gate, norms_from_one;
    struct tmb_linear_config { /* the gated delta rule */
        size_t key_heads, value_heads, key_dim, value_dim, taps;
        bool sigmoid; /* the gate behind the norm, else SiLU */
    } linear;
    struct tmb_mamba_config {
        size_t heads, head_dim, groups, state, taps;
        bool conv_bias;
        double least_step, most_step;
    } mamba;
    struct tmb_index_config {    /* which keys are seen */
        size_t heads, dim, keep; /* heads 0: there is no indexer */
        bool paired;             /* how its heads turn */
        size_t block, local;     /* of keys that are chosen together; blocks that always are */
    } index;
    bool hands_seen; /* some layers use the choice of the last indexer before them */
    size_t n_experts, top_k;
    size_t latent;             /* width of what enters experts and leaves them, 0: hidden */
    size_t expert_in;          /* hidden, or latent */
    size_t groups, top_groups; /* 1, 1: not limited */
    bool renormalize;          /* weights divided by their sum */
    float routed_scale;
    float eps, latent_eps; /* of norms; of the norms inside MLA */
    float clip_qkv;        /* 0: none */
    size_t window, chunk;
    float swiglu_limit, swiglu_alpha;
    bool qk_norm;
    bool temperature; /* llama4: queries of layers without rope are scaled */
    float floor_scale, attn_scale;
    bool tied;                  /* config.json ties the head to the embedding */
    tmb_rope rope, second_rope; /* dims 0: there is none */
    size_t streams;             /* residual streams, 1: the usual one */
    int rounds;                 /* of Sinkhorn and Knopp */
    float stream_eps;
    size_t stream_rank; /* of the gates of hyper-connections */
    size_t gram_size, gram_heads, gram_width, gram_taps,
        gram_shards; /* PLE; size 0: there is none */
    int64_t eos;
    size_t out_groups, out_rank; /* compressed attention: of the output projection */
    bool hands_id;               /* a token's id goes through the layers */
    tmb_layer_config *layer;     /* [layers] */
    tmb_arena arena;
} tmb_config;

/* Of the text part of model->ckpt->config.  The refusals of tmb_decoder_open() begin here. */
tmb_status tmb_config_read(tmb_config *out, const tmb_model *model, tmb_err *err) TMB_CHECKED;
void tmb_config_free(tmb_config *config);

#endif
