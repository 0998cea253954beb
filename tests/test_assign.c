/* Which rule decides about which module, what stays as it is, and what is said about it. */
#include "config.h"
#include "moe/recipe/assign.h"
#include "tests/mini_model.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static tmb_err err;

#define HEAD "[recipe]\nversion = 1\n[rules]\n" /* rules begin in line 4 */

typedef struct job {
    mini m;
    tmb_recipe *recipe;
    tmb_assignment *a;
} job;

static const mini_shape moe = {
    .layers = 2, .experts = 4, .hidden = 64, .width = 32, .shared = true, .mtp = true};

static bool decide(job *j, const char *rules)
{
    char text[8192];
    int n = snprintf(text, sizeof text, HEAD "%s", rules);
    j->recipe = NULL;
    j->a = NULL;
    if (tmb_recipe_parse(&j->recipe, text, (size_t)n, "r.ini", &err) ||
        tmb_assign(&j->a, &j->m.model, j->recipe, &err))
        return ok(0, "rules work: %s", err.message);
    return true;
}

static void end(job *j)
{
    tmb_assignment_close(j->a);
    tmb_recipe_close(j->recipe);
    mini_close(&j->m);
}

/* The module's format is `format`, by the rule in `line` (0: none), kept against it or not. */
static void is(const job *j, const char *name, const char *format, int line, bool against)
{
    const tmb_choice *c = mini_choice(&j->m, j->a->choices, name);
    int by = c && c->rule >= 0 ? j->recipe->rules[c->rule].line : 0;
    bool pass =
        c && strcmp(c->spec->name, format) == 0 && by == line && (c->why != NULL) == against;
    ok(pass, "%s is %s by line %d%s", name, format, line, against ? ", against the rule" : "");
    if (!pass && c)
        printf("# got %s by line %d, %s\n", c->spec->name, by, c->why ? c->why : "no reason");
}

static void warned(const job *j, const char *want)
{
    bool found = false;
    for (uint32_t i = 0; i < j->a->n_warnings; i++)
        found = found || strcmp(j->a->warnings[i], want) == 0;
    ok(found, "warned: %s", want);
    for (uint32_t i = 0; !found && i < j->a->n_warnings; i++)
        printf("# got %s\n", j->a->warnings[i]);
}

static void no_warnings(const job *j, const char *what)
{
    ok(j->a->n_warnings == 0, "%s: nothing to warn of", what);
    for (uint32_t i = 0; i < j->a->n_warnings; i++)
        printf("# got %s\n", j->a->warnings[i]);
}

static void test_first_match(void)
{
    job j;
    mini_open(&j.m, &moe);
    if (!decide(&j, "@shared_expert = fp8\n*experts* = nvfp4\n* = fp8\n")) return;
    is(&j, "model.layers.0.mlp.experts.3.up_proj", "nvfp4", 5, false);
    is(&j, "model.layers.1.mlp.shared_expert.down_proj", "fp8", 4, false);
    is(&j, "model.layers.1.self_attn.q_proj", "fp8", 6, false);
    is(&j, "model.layers.0.mlp.gate", "bf16", 6, true);
    is(&j, "model.layers.0.mlp.shared_expert_gate", "bf16", 6, true);
    is(&j, "model.layers.0.input_layernorm", "bf16", 6, true);
    is(&j, "model.embed_tokens", "bf16", 6, true);
    is(&j, "lm_head", "bf16", 6, true);
    is(&j, "mtp.layers.0.mlp.experts.0.up_proj", "bf16", 5, true);
    is(&j, "mtp.layers.0.self_attn.q_proj", "bf16", 6, true);
    ok(j.a->matched[0] == 6 && j.a->matched[1] == 36 &&
           j.a->matched[0] + j.a->matched[1] + j.a->matched[2] == j.m.model.n_units,
       "every module is counted by the rule that decides it");
    no_warnings(&j, "the usual recipe");
    end(&j);

    mini_open(&j.m, &moe);
    if (!decide(&j, "model.layers.1.mlp.* = fp8\n*.experts.[0-9].*_proj = nvfp4\n")) return;
    is(&j, "model.layers.1.mlp.experts.3.up_proj", "fp8", 4, false);
    is(&j, "model.layers.0.mlp.experts.3.up_proj", "nvfp4", 5, false);
    is(&j, "model.layers.0.self_attn.o_proj", "bf16", 0, false);
    end(&j);
}

static void test_protected(void)
{
    job j;
    mini_open(&j.m, &moe);
    if (!decide(&j, "@router = fp8\n*experts* = nvfp4\n")) return;
    is(&j, "model.layers.0.mlp.gate", "fp8", 4, false);
    is(&j, "mtp.layers.0.mlp.gate", "bf16", 0, false);
    warned(&j, "r.ini:4: '@router = fp8' quantizes 2 modules that better stay as they are "
               "(model.layers.0.mlp.gate): router: a changed logit changes which experts run");
    end(&j);

    mini_open(&j.m, &moe);
    if (!decide(&j, "lm_head = fp8\n*.mlp.gate = fp8\n*experts* = nvfp4\n")) return;
    is(&j, "lm_head", "bf16", 4, true);
    is(&j, "model.layers.0.mlp.gate", "bf16", 5, true);
    warned(&j, "r.ini:4: 'lm_head' changes nothing: all it decides stays as it is (lm_head, "
               "lm_head: its error goes straight into the logits); if that is meant to change, "
               "write @lm_head = fp8");
    warned(&j, "r.ini:5: '*.mlp.gate' changes nothing: all it decides stays as it is "
               "(model.layers.0.mlp.gate, router: a changed logit changes which experts run); if "
               "that is meant to change, write @router = fp8");
    end(&j);

    mini_open(&j.m, &moe);
    if (!decide(&j, "lm_head = bf16\n*.gate = bf16\n@norm = fp8\n*experts* = nvfp4\n")) return;
    warned(&j, "r.ini:6: '@norm' changes nothing: all it decides stays as it is "
               "(model.layers.0.input_layernorm, norm: a vector, nothing to gain)");
    ok(j.a->n_warnings == 1, "keeping what is kept anyway needs no warning");
    end(&j);
}

static void test_named(void)
{
    job j;
    mini_open(&j.m, &moe);
    if (!decide(&j, "mtp.layers.0.self_attn.o_proj = fp8\n*experts* = nvfp4\n")) return;
    is(&j, "mtp.layers.0.self_attn.o_proj", "fp8", 4, false);
    is(&j, "mtp.layers.0.mlp.experts.0.up_proj", "bf16", 5, true);
    warned(&j, "r.ini:4: 'mtp.layers.0.self_attn.o_proj = fp8' quantizes 1 module that better "
               "stays as it is (mtp.layers.0.self_attn.o_proj): mtp: a layer of its own");
    end(&j);

    mini_open(&j.m, &moe);
    if (!decide(&j, "@mtp = fp8\n*experts* = nvfp4\n")) return;
    is(&j, "mtp.layers.0.mlp.experts.0.up_proj", "fp8", 4, false);
    is(&j, "mtp.layers.0.input_layernorm", "bf16", 4, true);
    end(&j);
}

static void test_columns(void)
{
    job j;
    mini_shape odd = moe;
    odd.width = 40; /* of down_proj: no multiple of 16 */
    mini_open(&j.m, &odd);
    if (!decide(&j, "@shared_expert = fp8\n*experts* = nvfp4\n* = fp8\n")) return;
    is(&j, "model.layers.0.mlp.experts.0.down_proj", "bf16", 5, true);
    is(&j, "model.layers.0.mlp.experts.0.gate_proj", "bf16", 5, true);
    is(&j, "model.layers.0.mlp.shared_expert.down_proj", "fp8", 4, false);
    warned(&j, "r.ini:5: '*experts*' leaves 8 modules as they are: nvfp4 wants a multiple of 16 "
               "columns, and model.layers.0.mlp.experts.0.down_proj has 40");
    warned(&j, "r.ini:5: '*experts*' leaves 16 more modules as they are "
               "(model.layers.0.mlp.experts.0.gate_proj): another Linear of its layer's experts "
               "stays as it is");
    warned(&j, "r.ini: the routed experts stay as they are, and they are 34 % of the parameters; "
               "take a format that their width allows, like fp8");
    end(&j);

    mini_open(&j.m, &moe); /* half of a fused layer */
    for (uint32_t i = 0; i < j.m.model.n_units; i++)
        if (strcmp(j.m.model.units[i].name, "model.layers.1.self_attn.k_proj") == 0)
            j.m.model.units[i].in = 72;
    if (!decide(&j, "*.self_attn.* = nvfp4\n*experts* = nvfp4\n")) return;
    is(&j, "model.layers.1.self_attn.k_proj", "bf16", 4, true);
    is(&j, "model.layers.1.self_attn.q_proj", "bf16", 4, true);
    is(&j, "model.layers.1.self_attn.v_proj", "bf16", 4, true);
    is(&j, "model.layers.1.self_attn.o_proj", "nvfp4", 4, false);
    is(&j, "model.layers.0.self_attn.q_proj", "nvfp4", 4, false);
    warned(&j, "r.ini:4: '*.self_attn.*' leaves 2 more modules as they are "
               "(model.layers.1.self_attn.q_proj): a Linear that engines fuse with it stays as it "
               "is");
    end(&j);
}

static void test_mla(void)
{
    job j;
    mini_shape mla = moe;
    mla.mla = true;
    mini_open(&j.m, &mla);
    if (!decide(&j, "* = nvfp4\n")) return;
    is(&j, "model.layers.0.self_attn.kv_b_proj", "bf16", 4, true);
    is(&j, "model.layers.0.self_attn.q_a_proj", "nvfp4", 4, false);
    warned(&j, "r.ini:4: '*' leaves 2 kv_b_proj as they are: engines multiply it into other "
               "matrices at load and cannot decode nvfp4 for that; fp8 is possible");
    end(&j);
    mini_open(&j.m, &mla);
    if (!decide(&j, "*.kv_b_proj = fp8\n* = nvfp4\n")) return;
    is(&j, "model.layers.0.self_attn.kv_b_proj", "fp8", 4, false);
    no_warnings(&j, "FP8 for kv_b_proj");
    end(&j);
}

static void test_warnings(void)
{
    job j;
    mini_open(&j.m, &moe);
    if (!decide(&j, "*expert*_proj = nvfp4\n")) return;
    is(&j, "model.layers.0.mlp.shared_expert.up_proj", "nvfp4", 4, false);
    warned(&j, "r.ini:4: '*expert*_proj' also takes 6 shared-expert modules "
               "(model.layers.0.mlp.shared_expert.gate_proj), which every token passes; to treat "
               "them apart put '@shared_expert = fp8' above it");
    end(&j);

    mini_open(&j.m, &moe);
    if (!decide(&j, "*experts* = bf16\n* = fp8\n")) return;
    warned(&j, "r.ini: the routed experts stay as they are, and they are 31 % of the parameters; "
               "to quantize them add *experts* = nvfp4 to [rules]");
    end(&j);

    mini_open(&j.m, &moe);
    if (!decide(&j, "* = bf16\n")) return;
    warned(&j, "r.ini: no module would be quantized: every rule says bf16 or matches only what "
               "stays as it is");
    end(&j);

    mini_open(&j.m, &moe); /* "*" for whatever is left may find nothing left */
    if (!decide(&j, "*[!_]* = fp8\n* = bf16\n")) return;
    ok(j.a->matched[1] == 0, "a catch-all that finds nothing left is no error");
    end(&j);
}

/* Modules that lie in one stacked tensor answer to its name too. */
static void test_stacked(void)
{
    job j;
    mini_open(&j.m, &moe);
    for (uint32_t i = 0; i < j.m.model.n_units; i++) {
        tmb_unit *u = &j.m.model.units[i];
        if (u->role != TMB_ROLE_EXPERT) continue;
        u->stacked = true;
        u->disk = strstr(u->name, "down") ? "model.layers.9.mlp.experts.down_proj"
                                          : "model.layers.9.mlp.experts.gate_up_proj";
    }
    if (!decide(&j,
                "*.experts.gate_up_proj = nvfp4\nmodel.layers.9.mlp.experts.down_proj = nvfp4\n"))
        return;
    is(&j, "model.layers.0.mlp.experts.2.gate_proj", "nvfp4", 4, false);
    is(&j, "model.layers.1.mlp.experts.2.down_proj", "nvfp4", 5, false);
    end(&j);
}

/* A checkpoint of 369,000 modules and a recipe that looks at each of them twenty times. */
static void test_speed(void)
{
    job j;
    mini_shape large = {.layers = 60, .experts = 2050, .hidden = 64, .width = 32};
    mini_open(&j.m, &large);
    char rules[4096] = "";
    for (int i = 0; i < 8; i++)
        snprintf(rules + strlen(rules), sizeof rules - strlen(rules),
                 "model.layers.%d.mlp.experts.*.down_proj = bf16\n"
                 "model.layers.%d.mlp.*ts.*up* = bf16\nmodel.layers.%d.*.gate_proj = bf16\n",
                 i, i, i);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    bool good = decide(&j, strcat(rules, "*experts* = nvfp4\n* = fp8\n"));
    clock_gettime(CLOCK_MONOTONIC, &to);
    double s = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    printf("# %u modules, %d rules: %.3f s\n", j.m.model.n_units, good ? j.recipe->n_rules : 0, s);
    ok(good && s < 5, "369,000 modules and 26 rules within seconds");
    if (good) end(&j);
}

int main(void)
{
    test_first_match();
    test_protected();
    test_named();
    test_columns();
    test_mla();
    test_warnings();
    test_stacked();
    test_speed();
    return done();
}
