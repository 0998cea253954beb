/* guess.c - for model types that no other table answers to: the names most architectures use.
 *
 * Order matters more here than elsewhere: what must not be quantized comes before what may. */
#include "config.h"
#include "moe/model/arch_rows.h"

static const char *const types[] = {"", NULL};
/* Only a start: tmb_prefix_find() looks where the layers with experts are. */
static const char *const prefixes[] = {"model.language_model.", "language_model.model.", NULL};
static const tmb_arch_row rows[] = {
    {"**." TMB_TOWERS "|vision*|audio*|image*|siglip*|vit*.**", TMB_ROLE_VISION, 0},
    {"**.embed_tokens|*embed|*embedding|*embeddings|wte|wpe.**",
     TMB_ROLE_EMBEDDING, TMB_ARCH_TABLE},
    {"**.lm_head|output_layer|output_head|unembed*.**", TMB_ROLE_LM_HEAD, 0},
    {"output|head.**", TMB_ROLE_LM_HEAD, 0},

    {"**.shared_expert_gate|shared_experts_gate|shared_gate.**", TMB_ROLE_SHARED_GATE, 0},
    {"**.shared*|share_expert*|*_shared.**", TMB_ROLE_SHARED_EXPERT, 0},
    {"**.*router*.**", TMB_ROLE_ROUTER, 0},
    {"**.*expert*.{E}.**", TMB_ROLE_EXPERT, 0},
    {"**.*experts.**", TMB_ROLE_EXPERT, TMB_ARCH_STACKED},
    {"**.input_linear|output_linear.**", TMB_ROLE_EXPERT, TMB_ARCH_STACKED},
    {"**.gate|gating|wg|switch|gate_network|moe_gate|*correction_bias|expert_bias|moe_statics.**",
     TMB_ROLE_ROUTER, 0},

    {"**.*latent_proj.**", TMB_ROLE_LATENT, 0},
    {"**.*norm*|ln|ln_*.**", TMB_ROLE_NORM, 0},
    {"**.*indexer*|*compressor*|index_*.**", TMB_ROLE_INDEXER, 0},

    {"**.linear_attn|*mamba*|mixer|ssm|*delta*|kda.in_proj*_a|in_proj*_b|in_proj_ba.**",
     TMB_ROLE_LINEAR_ATTENTION, TMB_ARCH_KEEP},
    {"**.mixer.q_proj|k_proj|v_proj|o_proj.**", TMB_ROLE_ATTENTION, 0},
    {"**.linear_attn|*mamba*|mixer|ssm|*delta*|kda.in_proj*|out_proj|q_proj|k_proj|v_proj|o_proj.**",
     TMB_ROLE_LINEAR_ATTENTION, 0},
    {"**.linear_attn|*mamba*|ssm|*delta*|kda.**", TMB_ROLE_LINEAR_ATTENTION, TMB_ARCH_KEEP},

    {"**.*attn|*attention|mla.**", TMB_ROLE_ATTENTION, 0},
    {"**.q_proj|k_proj|v_proj|o_proj|qkv_proj|qkv|wq|wk|wv|wo|wqkv.**", TMB_ROLE_ATTENTION, 0},
    {"**.mlp|ffn|feed_forward|feedforward|ff.**", TMB_ROLE_DENSE_MLP, 0},
    {"**.gate_proj|up_proj|down_proj|gate_up_proj|w1|w2|w3|fc1|fc2.**", TMB_ROLE_DENSE_MLP, 0},
    {"**.mixer.**", TMB_ROLE_LINEAR_ATTENTION, TMB_ARCH_KEEP},
    TMB_ROWS_END,
};
static const tmb_arch_fuse fuses[] = {
    TMB_FUSE_MLA, TMB_FUSE_INDEXER, TMB_FUSE_GDN, {{"gate", "up"}, {NULL}}, TMB_FUSES_END,
};

const tmb_arch tmb_arch_guess = {
    .name = "guess",
    .model_types = types,
    .prefixes = prefixes,
    .rows = rows,
    .fuses = fuses,
};
