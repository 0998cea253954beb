/* test_model.c - the inventory of 28 architectures, by names alone and under strange names. */
#include "config.h"
#include "moe/model/archs.h"
#include "moe/model/match_rows.h"
#include "moe/model/model.h"
#include "tests/header_model.h"
#include "tests/tap.h"

/* One line of roles.txt: what a script that knows names alone counted. */
static void check_line(char *line)
{
    char *save, *name = strtok_r(line, " ", &save);
    uint32_t expect[3], counts[TMB_ROLES] = {0}, movable = 0;
    for (int i = 0; i < 3; i++)
        expect[i] = (uint32_t)atoi(strtok_r(NULL, " ", &save));

    opened o;
    if (!ok(open_folder(&o, header_model(name, NULL)), "%s: opens %s", name, o.err.message)) {
        close_folder(&o);
        return;
    }
    uint32_t *owner = malloc((o.ckpt->n_tensors + 1) * sizeof *owner);
    ok(owners(&o, owner), "%s: every tensor is in one unit", name);
    for (size_t i = 0; i < o.ckpt->n_tensors; i++)
        counts[o.model->units[owner[i]].role]++;
    bool kept_why = true;
    for (uint32_t u = 0; u < o.model->n_units; u++) {
        movable += o.model->units[u].linear && !o.model->units[u].keep;
        kept_why &= o.model->units[u].keep == (o.model->units[u].keep_why != NULL);
    }
    ok(kept_why, "%s: what is kept says why", name);
    ok(!o.model->guessed, "%s: its architecture is known (%s)", name, o.model->arch->name);
    ok(!noted(o.model, "unknown purpose"), "%s: every tensor is known", name);
    ok(movable == expect[0], "%s: %u Linears may be quantized, %u expected", name, movable,
       expect[0]);
    ok(o.model->n_fuses == expect[1], "%s: %u fused groups, %u expected", name, o.model->n_fuses,
       expect[1]);
    ok(o.model->n_experts_groups == expect[2], "%s: %u groups of experts, %u expected", name,
       o.model->n_experts_groups, expect[2]);
    bool all = true;
    for (char *word; (word = strtok_r(NULL, " \n", &save));) {
        char *equals = strchr(word, '=');
        tmb_role role;
        *equals = 0;
        if (!tmb_role_find(word, &role) || counts[role] != (uint32_t)atoi(equals + 1)) {
            printf("# %s: %u tensors of role %s, %s expected\n", name, counts[role], word,
                   equals + 1);
            all = false;
        } else {
            counts[role] = 0;
        }
    }
    for (int i = 0; i < TMB_ROLES; i++)
        if (counts[i]) {
            printf("# %s: %u tensors of role %s\n", name, counts[i], tmb_role_name((tmb_role)i));
            all = false;
        }
    ok(all, "%s: tensors by role", name);
    free(owner);
    close_folder(&o);
}

static void check_fixtures(void)
{
    char path[4096], line[1024];
    snprintf(path, sizeof path, "%s/tests/data/names/roles.txt", getenv("srcdir"));
    FILE *f = fopen(path, "r");
    if (!ok(f != NULL, "roles.txt is there")) return;
    while (fgets(line, sizeof line, f))
        if (*line != '#') check_line(line);
    fclose(f);
}

/* Fused layers: the siblings of a Linear, and the names that engines give the fused one. */
static void check_fused(void)
{
    static const struct {
        const char *model, *name;
        uint32_t n; /* 0: alone */
        const char *sibling, *alias[2];
    } cases[] = {
        {"qwen3_moe",
         "model.layers.0.self_attn.v_proj",
         3,
         "model.layers.0.self_attn.q_proj",
         {"model.layers.0.self_attn.qkv_proj"}},
        {"qwen3_moe", "model.layers.0.self_attn.o_proj", 0, NULL, {NULL}},
        {"deepseek_v3",
         "model.layers.1.self_attn.kv_a_proj_with_mqa",
         2,
         "model.layers.1.self_attn.q_a_proj",
         {"model.layers.1.self_attn.fused_qkv_a_proj",
          "model.layers.1.self_attn.fused_qkv_a_proj_with_mqa"}},
        {"deepseek_v3",
         "model.layers.1.mlp.shared_experts.up_proj",
         2,
         "model.layers.1.mlp.shared_experts.gate_proj",
         {"model.layers.1.mlp.shared_experts.gate_up_proj"}},
        {"mixtral",
         "model.layers.2.block_sparse_moe.experts.3.w3",
         2,
         "model.layers.2.block_sparse_moe.experts.3.w1",
         {NULL}},
        {"mixtral", "model.layers.2.block_sparse_moe.experts.3.w2", 0, NULL, {NULL}},
        {"qwen3_5_moe",
         "model.language_model.layers.0.linear_attn.in_proj_z",
         2,
         "model.language_model.layers.0.linear_attn.in_proj_qkv",
         {"model.language_model.layers.0.linear_attn.in_proj_qkvz"}},
        {"deepseek_v4", "layers.1.attn.wkv", 2, "layers.1.attn.wq_a", {"layers.1.attn.wqkv_a"}},
        {"gpt_oss",
         "model.layers.0.mlp.experts.1.up_proj",
         2,
         "model.layers.0.mlp.experts.1.gate_proj",
         {NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o;
        if (!open_folder(&o, header_model(cases[i].model, NULL))) abort();
        const tmb_unit *u = tmb_model_find(o.model, cases[i].name);
        const tmb_fuse *f = u && u->fuse != TMB_NONE ? &o.model->fuses[u->fuse] : NULL;
        bool fine = u && (f != NULL) == (cases[i].n > 0) && (!f || f->n_units == cases[i].n);
        const tmb_unit *sibling = f ? tmb_model_find(o.model, cases[i].sibling) : u;
        fine = fine && sibling && sibling->fuse == u->fuse;
        for (int a = 0; fine && f && a < 3; a++) {
            const char *want = a < 2 ? cases[i].alias[a] : NULL;
            fine = want ? f->alias[a] && strcmp(f->alias[a], want) == 0 : !f->alias[a];
        }
        ok(fine, "%s: %s is fused with %u others", cases[i].model, cases[i].name,
           cases[i].n ? cases[i].n - 1 : 0);
        close_folder(&o);
    }
}

/* The groups of experts: name, members by expert and projection. */
static void check_experts(void)
{
    static const struct {
        const char *model, *name;
        uint32_t experts, each;
        int layer;
    } cases[] = {
        {"qwen3_moe", "model.layers.2.mlp.experts", 16, 3, 2},
        {"mixtral", "model.layers.1.block_sparse_moe.experts", 8, 3, 1},
        {"nemotron_h", "backbone.layers.2.mixer.experts", 8, 2, 2},
        {"gpt_oss", "model.layers.3.mlp.experts", 8, 3, 3},
        {"kimi_k25_int4", "language_model.model.layers.2.mlp.experts", 8, 3, 2},
        {"deepseek_v3", "model.layers.3.mlp.experts", 16, 3, 3}, /* the MTP layer */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o;
        const tmb_experts *group = NULL;
        if (!open_folder(&o, header_model(cases[i].model, NULL))) abort();
        for (uint32_t g = 0; g < o.model->n_experts_groups; g++)
            if (strcmp(o.model->experts[g].name, cases[i].name) == 0) group = &o.model->experts[g];
        bool fine = group && group->n_experts == cases[i].experts &&
                    group->layer == cases[i].layer &&
                    group->n_units == cases[i].experts * cases[i].each;
        for (uint32_t k = 0; fine && k < group->n_units; k++) {
            const tmb_unit *u = &o.model->units[group->units[k]];
            const tmb_unit *before =
                k % cases[i].each ? &o.model->units[group->units[k - 1]] : NULL;
            fine = u->expert == (int32_t)(k / cases[i].each) &&
                   &o.model->experts[u->experts] == group && (!before || before->proj < u->proj);
        }
        ok(fine, "%s: %s holds %u experts of %u Linears, in order", cases[i].model, cases[i].name,
           cases[i].experts, cases[i].each);
        close_folder(&o);
    }
}

/* Tensors whose roles must never be mistaken, by name. */
static void check_named_roles(void)
{
    static const struct {
        const char *model, *name;
        tmb_role role;
        bool linear;
    } cases[] = {
        {"qwen3_moe", "model.layers.0.mlp.gate", TMB_ROLE_ROUTER, true},
        {"gpt_oss", "model.layers.0.mlp.router", TMB_ROLE_ROUTER, true},
        {"gpt_oss", "model.layers.0.mlp.router.bias", TMB_ROLE_ROUTER, false},
        {"llama4", "model.layers.1.feed_forward.router", TMB_ROLE_ROUTER, true},
        {"deepseek_v3", "model.layers.1.mlp.gate.e_score_correction_bias", TMB_ROLE_ROUTER, false},
        {"ernie4_5_moe", "model.layers.1.mlp.moe_statics.e_score_correction_bias", TMB_ROLE_ROUTER,
         false},
        {"deepseek_v4", "layers.0.ffn.gate.tid2eid", TMB_ROLE_ROUTER, false},
        {"qwen3_5_moe", "model.language_model.layers.0.mlp.shared_expert_gate",
         TMB_ROLE_SHARED_GATE, true},
        {"deepseek_v3", "model.layers.3.eh_proj", TMB_ROLE_MTP, true},
        {"deepseek_v3", "model.layers.3.embed_tokens", TMB_ROLE_MTP, false},
        {"deepseek_v3", "model.layers.3.mlp.gate", TMB_ROLE_MTP, false},
        {"qwen3_next", "mtp.layers.0.mlp.experts.1.up_proj", TMB_ROLE_MTP, true},
        {"ernie4_5_moe", "model.mtp_block.0.mlp.up_proj", TMB_ROLE_MTP, true},
        {"kimi_k25", "vision_tower.encoder.blocks.0.mlp.fc0", TMB_ROLE_VISION, true},
        {"kimi_k25", "vision_tower.encoder.blocks.0.norm0", TMB_ROLE_VISION, false},
        {"nemotron_h_latent", "backbone.layers.1.mixer.fc1_latent_proj", TMB_ROLE_LATENT, true},
        {"nemotron_h_latent", "mtp.layers.1.mixer.fc1_latent_proj", TMB_ROLE_MTP, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        opened o;
        if (!open_folder(&o, header_model(cases[i].model, NULL))) abort();
        const tmb_unit *u = tmb_model_find(o.model, cases[i].name);
        ok(u && u->role == cases[i].role && u->linear == cases[i].linear && (!u->linear || u->keep),
           "%s: %s is %s and stays", cases[i].model, cases[i].name, tmb_role_name(cases[i].role));
        close_folder(&o);
    }
}

static void check_roles(void)
{
    tmb_role role;
    bool round = true;
    for (int i = 0; i < TMB_ROLES; i++)
        round &= tmb_role_find(tmb_role_name((tmb_role)i), &role) && role == (tmb_role)i &&
                 *tmb_role_about(role);
    ok(round, "every role is found by its name");
    ok(tmb_role_find("@router", &role) && role == TMB_ROLE_ROUTER, "@router too");
    ok(!tmb_role_find("experts", &role), "no role is called experts");
    ok(tmb_role_protected(TMB_ROLE_ROUTER) && tmb_role_protected(TMB_ROLE_LM_HEAD) &&
           !tmb_role_protected(TMB_ROLE_EXPERT) && !tmb_role_protected(TMB_ROLE_MTP),
       "routers and heads are protected, experts and MTP layers are not");
    ok(tmb_role_kept(TMB_ROLE_MTP) && !tmb_role_kept(TMB_ROLE_LINEAR_ATTENTION),
       "MTP layers are kept, linear attention is not");
}

static bool fits(const char *pattern, const char *name)
{
    return tmb_pattern_match(pattern, name, strlen(name));
}

static void check_patterns(void)
{
    ok(fits("a.b", "a.b") && !fits("a.b", "a.bc") && !fits("a.b", "a"), "literal parts");
    ok(fits("layers.{L}.x", "layers.12.x") && !fits("layers.{L}.x", "layers.one.x"), "numbers");
    ok(fits("a.q|k|v.**", "a.k") && fits("a.q|k|v.**", "a.v.bias") && !fits("a.q|k|v.**", "a.o"),
       "alternatives, and ** at the end matches nothing too");
    ok(fits("**.gate.**", "gate") && fits("**.gate.**", "x.y.gate.bias") &&
           !fits("**.gate.**", "x.gate_proj"),
       "** at the beginning");
    ok(fits("x.*norm*", "x.q_a_layernorm") && fits("*a*b", "xayazb") && !fits("*a*b", "xayazc"),
       "* within a part");
    ok(!fits("x.*", "x.y.z"), "* does not cross a dot");
}

/* The same tensors under a name nobody knows give the same roles, but for a few that only their
 * own table can tell. */
static void check_strangers(void)
{
    static const char *const same[] = {
        "mixtral",       "qwen2_moe",    "deepseek_v3", "glm_moe_dsa",    "gpt_oss_mxfp4",
        "llama4_mm",     "qwen3_vl_moe", "minimax_m2",  "qwen3_5_moe",    "qwen3_next",
        "kimi_k25_int4", "ernie4_5_moe", "glm4_moe",    "deepseek_v3_fp8"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        opened a, b;
        bool both = open_folder(&a, header_model(same[i], NULL));
        both &= open_folder(&b, header_model(same[i], "never_heard_of"));
        if (!ok(both, "%s under another name opens", same[i])) continue;
        uint32_t differ = 0;
        for (uint32_t u = 0; u < a.model->n_units; u++) {
            const tmb_unit *x = &a.model->units[u], *y = tmb_model_find(b.model, x->name);
            if (y && x->role == y->role && x->linear == y->linear && x->keep == y->keep &&
                x->layer == y->layer && x->expert == y->expert && x->out == y->out &&
                (x->fuse == TMB_NONE) == (y->fuse == TMB_NONE))
                continue;
            if (!differ++) printf("# %s: %s differs\n", same[i], x->name);
        }
        ok(!differ && a.model->n_units == b.model->n_units, "%s: the same units", same[i]);
        ok(b.model->guessed && noted(b.model, "never_heard_of"), "%s: and a note", same[i]);
        close_folder(&a);
        close_folder(&b);
    }
}

int main(void)
{
    if (!getenv("srcdir")) setenv("srcdir", ".", 1);
    check_roles();
    check_patterns();
    check_fixtures();
    check_fused();
    check_experts();
    check_named_roles();
    check_strangers();
    return done();
}
