/* arch_forward.h - how an architecture computes: data, no code.
 *
 * An architecture that has one of these can be run by moe/infer/.  What differs from model to model
 * of one architecture is read from config.json (moe/infer/model_config.c), or seen in the tensors:
 * which layers are sparse, which Linears have a bias. */
#ifndef TMB_MODEL_ARCH_FORWARD_H
#define TMB_MODEL_ARCH_FORWARD_H

#include <stdbool.h>

/* A switch of config.json: its key and what holds without it.  key NULL: always `otherwise`. */
typedef struct tmb_switch {
    const char *key;
    bool otherwise;
} tmb_switch;

typedef enum tmb_attention {
    TMB_ATTENTION_GQA,
    TMB_ATTENTION_MLA,
    TMB_ATTENTION_COMPRESSED, /* DeepSeek-V4: a window, and windows before it as one entry each */
} tmb_attention;

/* How a token's state goes from half to half. */
typedef enum tmb_streams {
    TMB_STREAMS_ONE,
    TMB_STREAMS_HYPER,    /* hc_count of them behind low-rank gates; PLE layers add n-grams */
    TMB_STREAMS_MANIFOLD, /* hc_mult of them, mixed by matrices that Sinkhorn and Knopp balance */
} tmb_streams;

/* Whether layers are alike in their first half, and where that is told. */
typedef enum tmb_mixture {
    TMB_MIXTURE_ALIKE,
    TMB_MIXTURE_DELTA, /* layer_types, else full attention in every full_attention_interval-th layer
                          (4) and the gated delta rule elsewhere */
    TMB_MIXTURE_HALVES, /* hybrid_override_pattern, else layers_block_type: a layer is Mamba2,
                           attention, experts or a dense MLP alone */
} tmb_mixture;

typedef enum tmb_qk_norm {
    TMB_QK_NORM_NONE,
    TMB_QK_NORM_HEAD,  /* RMS norm of each head, before the rotation */
    TMB_QK_NORM_WHOLE, /* RMS norm of the whole projection, before the rotation */
    TMB_QK_NORM_L2,    /* each head to length 1 without a weight, after the rotation */
} tmb_qk_norm;

/* How logits become chosen experts and their weights. */
typedef enum tmb_routing {
    TMB_ROUTING_SOFTMAX,     /* softmax over all, top-k of it (+ correction), weights without it */
    TMB_ROUTING_SIGMOID,     /* sigmoid, top-k of score + correction, weights without it */
    TMB_ROUTING_SOFTPLUS,    /* as sigmoid, with sqrt(log(1 + exp)) */
    TMB_ROUTING_TOP_SOFTMAX, /* top-k of the logits, softmax over these */
    TMB_ROUTING_INPUT_SIGMOID, /* top-k of the logits, sigmoid, multiplies the expert's input */
} tmb_routing;

typedef enum tmb_groups {
    TMB_GROUPS_NONE,
    TMB_GROUPS_MAX,  /* n_group, topk_group; a group counts by its best, if topk_method says so */
    TMB_GROUPS_TOP2, /* by the sum of its two best */
} tmb_groups;

/* Which keys a layer's queries see, and where that is told. */
typedef enum tmb_views {
    TMB_VIEWS_FULL,
    TMB_VIEWS_WINDOW,     /* sliding_window in all layers, when it is a number */
    TMB_VIEWS_USE_WINDOW, /* … and use_sliding_window is true */
    TMB_VIEWS_QWEN2,      /* layer_types, else every other layer below max_window_layers, when
                             use_sliding_window is true */
    TMB_VIEWS_ALTERNATE,  /* layer_types, else sliding and full in turns */
    TMB_VIEWS_CHUNKED,    /* layer_types, else chunks where the layer rotates */
} tmb_views;

typedef enum tmb_partial {
    TMB_PARTIAL_NONE,       /* the whole head rotates, of MLA qk_rope_head_dim */
    TMB_PARTIAL_HALF,       /* partial_rotary_factor, else half */
    TMB_PARTIAL_QUARTER,    /* partial_rotary_factor, else a quarter */
    TMB_PARTIAL_ROTARY_DIM, /* rotary_dim, else partial_rotary_factor, else the whole head */
} tmb_partial;

typedef enum tmb_activation {
    TMB_ACTIVATION_SWIGLU,
    TMB_ACTIVATION_CLAMPED, /* of gpt-oss, with swiglu_limit */
    TMB_ACTIVATION_LIMITED, /* SwiGLU of gate up to swiglu_limit and up within ±swiglu_limit */
    TMB_ACTIVATION_RELU2,   /* the square of what is positive; MLPs have no gate */
} tmb_activation;

typedef struct tmb_arch_forward {
    tmb_attention attention;
    tmb_mixture mixture;
    const char *mixer_block; /* of the first half; NULL: "self_attn" */
    /* Leaves; NULL: "embed_tokens", "norm", "input_layernorm", "post_attention_layernorm". */
    const char *embedding, *last_norm, *first_norm, *second_norm;
    const char *head;      /* NULL: "lm_head" */
    const char *leaves[3]; /* gate, up, down of dense and shared MLPs; NULL: gate_proj … */
    tmb_streams streams;
    const char
        *hash; /* leaf in the block: the experts of each token id, in the first num_hash_layers */
    bool without_rope;
    tmb_switch output_gate;    /* q_proj gives a head's query, then a gate for its output */
    bool indexer;              /* MLA: sparse attention, index_topk … */
    tmb_switch index_paired;   /* neighbours rotate together in the indexer's heads */
    bool index_shared;         /* index_topk_freq … : not every layer has an indexer */
    bool pool_indexer;         /* GQA: indexer_budget … : blocks by their mean index key */
    bool block_indexer;        /* GQA: sparse_attention_config, blocks of keys */
    tmb_switch norms_from_one; /* norm weights are stored as distances from one */
    tmb_switch attention_bias; /* the projections in `biased` must have a bias */
    const char *biased[4];     /* leaves */
    tmb_qk_norm qk_norm;
    tmb_switch use_qk_norm;
    bool sinks;             /* self_attn.sinks [heads] */
    bool clips;             /* clip_qkv, after the norms */
    bool some_without_rope; /* no_rope_layers: 1 rotates; attn_temperature_tuning elsewhere */
    tmb_switch paired;      /* neighbours rotate together, not halves */
    tmb_partial partial;
    double theta;          /* without rope_theta */
    bool yarn_unless_told; /* gpt-oss: rotary scaling of its own when config.json has none */
    double eps;            /* without rms_norm_eps */
    const char *eps_key;   /* NULL: "rms_norm_eps" */
    tmb_views views;

    const char *block;      /* "mlp": the block of a layer, dense or sparse */
    const char *dense;      /* the block of a dense layer; NULL: the same */
    const char *router;     /* leaf in the block */
    bool router_bias;       /* added to the logits */
    const char *correction; /* leaf in the block: added to scores for the choice alone */
    tmb_switch use_correction;
    tmb_routing routing;
    tmb_switch renormalize;
    tmb_groups groups;
    bool scaled;             /* routed_scaling_factor */
    double scale;            /* without it */
    const char *shared;      /* leaf in the block, NULL: no shared experts */
    const char *shared_key;  /* of config.json: 0 or null says that there are none; NULL: always */
    const char *shared_gate; /* leaf in the block, NULL: not gated */
    tmb_activation activation;
    const char *latent_key; /* of config.json: width of latent experts, between fc1_latent_proj and
                               fc2_latent_proj; NULL: none */
} tmb_arch_forward;

#endif
