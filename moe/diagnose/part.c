#include "config.h"
#include "moe/diagnose/part.h"

static const struct {
    const char *name, *title;
    tmb_role role;
} parts[TMB_MIX_PARTS] = {
    [TMB_MIX_ROUTER] = {"router", "the router", TMB_ROLE_ROUTER},
    [TMB_MIX_ATTENTION] = {"attention", "attention", TMB_ROLE_ATTENTION},
    [TMB_MIX_KV] = {"kv_cache", "the KV cache", TMB_ROLES},
    [TMB_MIX_SHARED] = {"shared_expert", "the shared expert", TMB_ROLE_SHARED_EXPERT},
    [TMB_MIX_EXPERT] = {"expert", "the routed experts", TMB_ROLE_EXPERT},
    [TMB_MIX_DENSE] = {"dense_mlp", "the dense MLP", TMB_ROLE_DENSE_MLP},
    [TMB_MIX_HEAD] = {"lm_head", "lm_head", TMB_ROLE_LM_HEAD},
    [TMB_MIX_BASE] = {"embedding", "the embedding", TMB_ROLE_EMBEDDING},
};

const char *tmb_mix_part_name(tmb_mix_part part)
{
    return parts[part].name;
}

const char *tmb_mix_part_title(tmb_mix_part part)
{
    return parts[part].title;
}

tmb_role tmb_mix_part_role(tmb_mix_part part)
{
    return parts[part].role;
}

tmb_mix_part tmb_mix_part_of(const tmb_unit *unit, bool norm)
{
    switch (unit->role) {
    case TMB_ROLE_ROUTER:
        return TMB_MIX_ROUTER;
    case TMB_ROLE_ATTENTION:
    case TMB_ROLE_LINEAR_ATTENTION:
    case TMB_ROLE_INDEXER:
        return TMB_MIX_ATTENTION;
    case TMB_ROLE_SHARED_EXPERT:
    case TMB_ROLE_SHARED_GATE:
        return TMB_MIX_SHARED;
    case TMB_ROLE_EXPERT:
    case TMB_ROLE_LATENT:
        return TMB_MIX_EXPERT;
    case TMB_ROLE_DENSE_MLP:
        return TMB_MIX_DENSE;
    case TMB_ROLE_LM_HEAD:
        return TMB_MIX_HEAD;
    case TMB_ROLE_NORM: /* the last one, or one inside attention */
        if (norm) return TMB_MIX_PARTS;
        return unit->layer < 0 ? TMB_MIX_HEAD : TMB_MIX_ATTENTION;
    case TMB_ROLE_EMBEDDING:
        return TMB_MIX_BASE;
    default:
        return TMB_MIX_PARTS;
    }
}
