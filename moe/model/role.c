/* role.c - the table of roles: names, one line about each, and why some are left alone. */
#include "config.h"
#include "moe/model/role.h"

#include <string.h>

typedef struct role_row {
    const char *name, *about;
    bool is_protected;
    const char *why; /* kept unless a rule names the role */
} role_row;

static const role_row roles[TMB_ROLES] = {
    [TMB_ROLE_EXPERT] = {"expert", "routed experts: gate, up, down", false, NULL},
    [TMB_ROLE_SHARED_EXPERT] = {"shared_expert", "experts that every token passes", false, NULL},
    [TMB_ROLE_ROUTER] = {"router", "the router with its biases", true,
                         "router: a changed logit changes which experts run"},
    [TMB_ROLE_SHARED_GATE] = {"shared_expert_gate", "the gate of the shared expert, one row", true,
                              "shared-expert gate: one row of weights scales a whole expert"},
    [TMB_ROLE_ATTENTION] = {"attention", "q, k, v, o and the projections of MLA", false, NULL},
    [TMB_ROLE_LINEAR_ATTENTION] = {"linear_attention", "gated delta net and Mamba2 blocks", false,
                                   NULL},
    [TMB_ROLE_INDEXER] = {"indexer", "sparse-attention indexers and KV compressors", false,
                          "indexer: it chooses which keys are seen, and is small"},
    [TMB_ROLE_LATENT] = {"latent", "projections into and out of latent experts", false,
                         "latent projection: every routed value passes through it"},
    [TMB_ROLE_DENSE_MLP] = {"dense_mlp", "MLPs of layers without experts", false, NULL},
    [TMB_ROLE_LM_HEAD] = {"lm_head", "the output projection", true,
                          "lm_head: its error goes straight into the logits"},
    [TMB_ROLE_EMBEDDING] = {"embedding", "token embeddings", true,
                            "embedding: a table that is looked up, not multiplied"},
    [TMB_ROLE_NORM] = {"norm", "norm weights", true, "norm: a vector, nothing to gain"},
    [TMB_ROLE_MTP] = {"mtp", "multi-token-prediction layers", false,
                      "mtp: loaders expect multi-token-prediction layers unquantized"},
    [TMB_ROLE_VISION] = {"vision", "vision towers and projectors", false,
                         "vision: loaders expect the tower unquantized"},
    [TMB_ROLE_OTHER] = {"other", "everything else", false,
                        "other: what it does is not known well enough to quantize it"},
};

const char *tmb_role_name(tmb_role role)
{
    return roles[role].name;
}

const char *tmb_role_about(tmb_role role)
{
    return roles[role].about;
}

bool tmb_role_find(const char *name, tmb_role *out)
{
    if (*name == '@') name++;
    for (int i = 0; i < TMB_ROLES; i++) {
        if (strcmp(name, roles[i].name) != 0) continue;
        *out = (tmb_role)i;
        return true;
    }
    return false;
}

const char *tmb_role_protected(tmb_role role)
{
    return roles[role].is_protected ? roles[role].why : NULL;
}

const char *tmb_role_kept(tmb_role role)
{
    return roles[role].why;
}

static const struct {
    const char *leaf;
    tmb_proj proj;
} projections[] = {
    {"gate_proj", TMB_PROJ_GATE}, {"up_proj", TMB_PROJ_UP}, {"down_proj", TMB_PROJ_DOWN},
    {"w1", TMB_PROJ_GATE},        {"w3", TMB_PROJ_UP},      {"w2", TMB_PROJ_DOWN},
    {"w_gate", TMB_PROJ_GATE},    {"w_up", TMB_PROJ_UP},    {"w_down", TMB_PROJ_DOWN},
    {"q_proj", TMB_PROJ_Q},       {"k_proj", TMB_PROJ_K},   {"v_proj", TMB_PROJ_V},
    {"o_proj", TMB_PROJ_O},
};

tmb_proj tmb_proj_of(const char *leaf, size_t n)
{
    for (size_t i = 0; i < sizeof projections / sizeof *projections; i++)
        if (strlen(projections[i].leaf) == n && memcmp(projections[i].leaf, leaf, n) == 0)
            return projections[i].proj;
    return TMB_PROJ_OTHER;
}
