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
    check_strangers();
    return done();
}
