/* role.h - what a tensor is for.  Recipes, plans and reports speak of roles, not of names. */
#ifndef TMB_MODEL_ROLE_H
#define TMB_MODEL_ROLE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum tmb_role {
    TMB_ROLE_EXPERT,           /* @expert: routed experts' gate, up, down */
    TMB_ROLE_SHARED_EXPERT,    /* @shared_expert */
    TMB_ROLE_ROUTER,           /* @router, with its bias and correction bias */
    TMB_ROLE_SHARED_GATE,      /* @shared_expert_gate: the [1, hidden] sigmoid gate */
    TMB_ROLE_ATTENTION,        /* @attention: q, k, v, o; MLA projections */
    TMB_ROLE_LINEAR_ATTENTION, /* @linear_attention: gated delta net, Mamba2 */
    TMB_ROLE_INDEXER,          /* @indexer: sparse-attention indexers, KV compressors */
    TMB_ROLE_LATENT,           /* @latent: projections into and out of latent experts */
    TMB_ROLE_DENSE_MLP,        /* @dense_mlp */
    TMB_ROLE_LM_HEAD,          /* @lm_head */
    TMB_ROLE_EMBEDDING,        /* @embedding */
    TMB_ROLE_NORM,             /* @norm */
    TMB_ROLE_MTP,              /* @mtp: everything of a multi-token-prediction layer */
    TMB_ROLE_VISION,           /* @vision: vision towers and projectors */
    TMB_ROLE_OTHER,            /* @other: hyper-connections, convolutions, unknown tensors */
    TMB_ROLES
} tmb_role;

/* Which projection of its block a Linear is; gate/up/down also for w1/w3/w2. */
typedef enum tmb_proj {
    TMB_PROJ_OTHER,
    TMB_PROJ_GATE,
    TMB_PROJ_UP,
    TMB_PROJ_DOWN,
    TMB_PROJ_Q,
    TMB_PROJ_K,
    TMB_PROJ_V,
    TMB_PROJ_O,
} tmb_proj;

const char *tmb_role_name(tmb_role role); /* "shared_expert", without the @ */
const char *tmb_role_about(tmb_role role); /* one line for lists */
bool tmb_role_find(const char *name, tmb_role *out); /* with or without the @ */

/* Protected: only a rule that names the role moves it, and plan warns when one does.  The
 * reason, or NULL when a glob may quantize it: "router: a changed logit changes which experts run". */
const char *tmb_role_protected(tmb_role role);

/* The reason why a glob leaves the role alone, NULL when it does not: the protected roles, and
 * those that released checkpoints keep in high precision (MTP, vision, indexer, latent, other). */
const char *tmb_role_kept(tmb_role role);

/* By the last part of a module name: "gate_proj", "w1" are TMB_PROJ_GATE. */
tmb_proj tmb_proj_of(const char *leaf, size_t n);

#endif
