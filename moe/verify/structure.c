/* structure.c - is the model whole: layers, experts, their projections, routers, names.
 *
 * A missing tensor is what loaders forgive most easily: the parameter keeps whatever was in memory.
 */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAVES = 32 };

/* The experts of one layer: modules [first, last) whose names start alike. */
typedef struct tmb_layer_run {
    uint32_t first, last;
    uint32_t leaves; /* bit set of the projections present in any expert */
    int32_t n;       /* highest number + 1 */
} tmb_layer_run;

typedef struct tmb_structure {
    tmb_verifier *v;
    tmb_layer_run *runs;
    uint32_t n_runs;
    const char *leaf[LEAVES]; /* names of projections met */
    uint32_t n_leaves;
    uint8_t *routed; /* by layer: a router was seen */
} tmb_structure;

static const char *leaf_of(const tmb_module *m)
{
    const char *dot = strrchr(m->name, '.');
    return dot ? dot + 1 : m->name;
}

static uint32_t leaf_bit(tmb_structure *s, const tmb_module *m)
{
    const char *leaf = leaf_of(m);
    for (uint32_t i = 0; i < s->n_leaves; i++)
        if (strcmp(s->leaf[i], leaf) == 0) return 1u << i;
    if (s->n_leaves == LEAVES) return 0;
    s->leaf[s->n_leaves] = leaf;
    return 1u << s->n_leaves++;
}

static bool same_parent(const tmb_module *a, const tmb_module *b)
{
    return a->parent == b->parent && memcmp(a->name, b->name, a->parent) == 0;
}

/* Modules are sorted by name, so experts of one layer follow one another. */
static bool find_runs(tmb_structure *s)
{
    tmb_verifier *v = s->v;
    s->runs = tmb_arena_alloc(&v->scratch, (v->n_modules + 1) * sizeof *s->runs);
    if (!s->runs) return false;
    const tmb_module *previous = NULL;
    for (uint32_t i = 0; i < v->n_modules; i++) {
        const tmb_module *m = &v->modules[i];
        if (m->expert < 0 || m->role == TMB_ROLE_VISION) continue;
        if (!previous || !same_parent(previous, m))
            s->runs[s->n_runs++] = (tmb_layer_run){.first = i};
        tmb_layer_run *run = &s->runs[s->n_runs - 1];
        run->last = i + 1;
        run->leaves |= leaf_bit(s, m);
        if (m->expert >= run->n) run->n = m->expert + 1;
        previous = m;
    }
    return true;
}

/* Projections this layer should have: those of every layer that shares one with it. */
static uint32_t expected_leaves(const tmb_structure *s, const tmb_layer_run *run)
{
    uint32_t all = run->leaves;
    for (uint32_t i = 0; i < s->n_runs; i++)
        if (s->runs[i].leaves & run->leaves) all |= s->runs[i].leaves;
    return all;
}

static void report_expert(tmb_structure *s, const tmb_layer_run *run, int32_t e, uint32_t have,
                          uint32_t want, int32_t expected)
{
    const tmb_module *m = &s->v->modules[run->first];
    char where[512];
    snprintf(where, sizeof where, "%.*s.%d", (int)m->parent, m->name, e);
    if (e >= expected)
        tmb_find(s->v, TMB_CHECK_EXPERT_EXTRA, TMB_ERROR, 0, where,
                 "an expert of this number is stored, but config.json has only %d in a layer: vLLM "
                 "and SGLang "
                 "skip it in silence; it was renumbered, or config.json is another model's",
                 expected);
    else if (!have)
        tmb_find(s->v, TMB_CHECK_EXPERT_MISSING, TMB_ERROR, 0, where,
                 "the expert is missing (a layer has %d): vLLM and SGLang leave its weights "
                 "uninitialised and "
                 "say nothing; quantize the layer again",
                 expected);
    else
        for (uint32_t i = 0; i < s->n_leaves; i++)
            if ((want & ~have) >> i & 1)
                tmb_find(s->v, TMB_CHECK_EXPERT_INCOMPLETE, TMB_ERROR, i, where,
                         "the expert has no %s: vLLM and SGLang leave it uninitialised and say "
                         "nothing; quantize "
                         "the layer again",
                         s->leaf[i]);
}

static void check_run(tmb_structure *s, const tmb_layer_run *run)
{
    tmb_verifier *v = s->v;
    int32_t expected = v->model->n_experts > 0 ? v->model->n_experts : run->n;
    int32_t n = run->n > expected ? run->n : expected;
    uint32_t *have = calloc((size_t)n, sizeof *have), want = expected_leaves(s, run);
    if (!have) {
        v->no_memory = true;
        return;
    }
    const tmb_module *first = NULL;
    tmb_ran(v, TMB_CHECK_EXPERT_MISSING);
    tmb_ran(v, TMB_CHECK_EXPERT_INCOMPLETE);
    tmb_ran(v, TMB_CHECK_MIXED_EXPERTS);
    for (uint32_t i = run->first; i < run->last; i++) {
        tmb_module *m = &v->modules[i];
        if (m->expert < 0) continue;
        have[m->expert] |= leaf_bit(s, m);
        if (!first) first = m;
        if (!m->linear || tmb_same_scheme(m->meant, first->meant)) continue;
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_MIXED_EXPERTS, TMB_ERROR, 0,
            "experts of one layer have several formats (%s and %s): engines build one kernel for a "
            "layer and read the others' codes with it; give the whole layer one format",
            first->meant ? first->meant->name : "unquantized",
            m->meant ? m->meant->name : "unquantized");
    }
    for (int32_t e = 0; e < n; e++)
        if ((have[e] & want) != want || e >= expected)
            if (have[e] || e < expected) report_expert(s, run, e, have[e], want, expected);
    free(have);
}

/* The most frequent [out, in] of a projection in the run, by majority vote. */
static const tmb_module *typical(const tmb_structure *s, const tmb_layer_run *run, const char *leaf)
{
    const tmb_module *best = NULL;
    uint32_t votes = 0;
    for (uint32_t i = run->first; i < run->last; i++) {
        const tmb_module *m = &s->v->modules[i];
        if (m->expert < 0 || !m->out || strcmp(leaf_of(m), leaf) != 0) continue;
        if (!votes) best = m;
        votes += best->out == m->out && best->in == m->in ? 1 : -1u;
    }
    return best;
}

static const char odd_shape[] =
    "the weight is [%llu, %llu], its place in the model wants [%llu, %llu]: it was stored "
    "transposed or "
    "unpacked, and loaders refuse it or fill it with what fits; quantize the layer again";

static void check_shapes(tmb_structure *s, const tmb_layer_run *run)
{
    tmb_verifier *v = s->v;
    const tmb_module *gate = NULL, *down = NULL;
    tmb_ran(v, TMB_CHECK_WEIGHT_SHAPE);
    for (uint32_t k = 0; k < s->n_leaves; k++) {
        if (!(run->leaves >> k & 1)) continue;
        const tmb_module *best = typical(s, run, s->leaf[k]);
        if (!best) continue;
        if (best->proj == TMB_PROJ_GATE || best->proj == TMB_PROJ_UP) gate = best;
        if (best->proj == TMB_PROJ_DOWN) down = best;
        for (uint32_t i = run->first; i < run->last; i++) {
            tmb_module *m = &v->modules[i];
            if (m->expert < 0 || m->damaged || !m->out || strcmp(leaf_of(m), s->leaf[k]) != 0)
                continue;
            if (m->out != best->out || m->in != best->in)
                TMB_FIND_MODULE(v, m, TMB_CHECK_WEIGHT_SHAPE, TMB_ERROR, 0, odd_shape,
                                (unsigned long long)m->out, (unsigned long long)m->in,
                                (unsigned long long)best->out, (unsigned long long)best->in);
        }
    }
    if (gate && down && (gate->out != down->in || gate->in != down->out))
        tmb_find(v, TMB_CHECK_WEIGHT_SHAPE, TMB_ERROR, 1, down->name, odd_shape,
                 (unsigned long long)down->out, (unsigned long long)down->in,
                 (unsigned long long)gate->in, (unsigned long long)gate->out);
}

/* Outside the experts only a clear transposition is told: hidden on the wrong side. */
static void check_hidden(tmb_structure *s)
{
    tmb_verifier *v = s->v;
    int64_t size = tmb_json_int_or(tmb_json_get(v->ckpt->config, "text_config"), "hidden_size", 0);
    if (!size) size = tmb_json_int_or(v->ckpt->config, "hidden_size", 0);
    uint64_t hidden = size > 0 ? (uint64_t)size : 0;
    for (uint32_t i = 0; hidden && i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        bool known = m->role == TMB_ROLE_ATTENTION || m->role == TMB_ROLE_DENSE_MLP ||
                     m->role == TMB_ROLE_SHARED_EXPERT;
        if (!known || m->expert >= 0 || m->damaged || !m->out || m->out == m->in) continue;
        bool into = m->proj == TMB_PROJ_DOWN || m->proj == TMB_PROJ_O;
        bool from = m->proj == TMB_PROJ_GATE || m->proj == TMB_PROJ_UP || m->proj == TMB_PROJ_Q ||
                    m->proj == TMB_PROJ_K || m->proj == TMB_PROJ_V;
        if ((into && m->out != hidden && m->in == hidden) ||
            (from && m->in != hidden && m->out == hidden))
            TMB_FIND_MODULE(v, m, TMB_CHECK_WEIGHT_SHAPE, TMB_ERROR, 0, odd_shape,
                            (unsigned long long)m->out, (unsigned long long)m->in,
                            (unsigned long long)m->in, (unsigned long long)m->out);
    }
}

static bool router_named(const tmb_verifier *v, const char *block, size_t n)
{
    static const char *const names[] = {"gate", "router", "gate.wg", "router.layer", "router.proj"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char text[512];
        snprintf(text, sizeof text, "%.*s.%s", (int)n, block, names[i]);
        const tmb_module *m = tmb_module_find(v, text);
        if (m && m->part[TMB_VP_WEIGHT] != TMB_NO_TENSOR) return true;
    }
    return false;
}

/* block: the name of the MoE block, "model.layers.3.mlp". */
static void check_router(tmb_structure *s, const tmb_module *expert)
{
    tmb_verifier *v = s->v;
    size_t n = expert->parent;
    if (n > 8 && memcmp(expert->name + n - 8, ".experts", 8) == 0) n -= 8;
    tmb_ran(v, TMB_CHECK_ROUTER_MISSING);
    if (router_named(v, expert->name, n)) return;
    if (expert->layer >= 0 && s->routed[expert->layer]) return;
    char where[512];
    snprintf(where, sizeof where, "%.*s", (int)n, expert->name);
    tmb_find(v, TMB_CHECK_ROUTER_MISSING, v->model->guessed ? TMB_WARNING : TMB_ERROR, 0, where,
             "this MoE block has experts but no router weight: vLLM and SGLang leave it "
             "uninitialised and route "
             "at random; copy it from the source");
}

static void check_stacks(tmb_structure *s)
{
    tmb_verifier *v = s->v;
    bool own = v->model->arch->stack != TMB_STACK_NONE;
    for (uint32_t i = 0; i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        if (!m->stacked) continue;
        check_router(s, m);
        tmb_ran(v, TMB_CHECK_FUSED_NAMES);
        bool native = m->part[TMB_VP_BLOCKS] != TMB_NO_TENSOR;
        const tmb_tensor *w = tmb_module_part(v, m, TMB_VP_WEIGHT);
        bool codes = !native && ((w && !tmb_is_plain((tmb_dtype)w->dtype)) ||
                                 m->part[TMB_VP_SCALE] != TMB_NO_TENSOR);
        bool split = codes && !(v->model->arch->quirks & TMB_QUIRK_STACKED_OUTPUT);
        if (own && !split) continue;
        bool certain = !v->model->guessed || split;
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_FUSED_NAMES, certain ? TMB_ERROR : TMB_WARNING, 0,
            "experts are stored under their in-memory (fused) name: vLLM finds no parameter for it "
            "and "
            "SGLang skips it in silence; write experts.N.gate_proj, up_proj and down_proj");
    }
}

static void check_layers(tmb_structure *s, size_t n_layers)
{
    tmb_verifier *v = s->v;
    uint8_t *seen = tmb_arena_alloc(&v->scratch, n_layers + 1);
    size_t prefix = v->model->prefix ? strlen(v->model->prefix) : 0;
    bool any = false;
    if (!seen) {
        v->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < v->n_modules; i++) {
        const tmb_module *m = &v->modules[i];
        if (m->layer < 0 || (size_t)m->layer >= n_layers) continue;
        if (prefix && strncmp(m->name, v->model->prefix, prefix) != 0) continue;
        seen[m->layer] = 1;
        any = true;
    }
    tmb_ran(v, TMB_CHECK_LAYER_MISSING);
    for (size_t l = 0; any && l < n_layers; l++) {
        if (seen[l]) continue;
        char where[64];
        snprintf(where, sizeof where, "layer %zu", l);
        tmb_find(v, TMB_CHECK_LAYER_MISSING, TMB_ERROR, 0, where,
                 "config.json has %zu layers, this one has no tensor: engines leave it "
                 "uninitialised; a shard is "
                 "missing or config.json is another model's",
                 n_layers);
    }
}

static void check_names(tmb_structure *s)
{
    tmb_verifier *v = s->v;
    if (v->model->guessed) return;
    tmb_ran(v, TMB_CHECK_EXPERT_NAMES);
    for (uint32_t i = 0; i < v->n_modules; i++) {
        const tmb_module *m = &v->modules[i];
        if (m->expert < 0 || !m->linear || m->role == TMB_ROLE_VISION) continue;
        bool known = m->unit && (m->unit->role == TMB_ROLE_EXPERT || m->unit->role == TMB_ROLE_MTP);
        /* llm-compressor's spelling of Mixtral: the block's old name with the new projections'
         * names. */
        bool mongrel = strstr(m->name, ".block_sparse_moe.experts.") && strstr(leaf_of(m), "_proj");
        if (known && !mongrel) continue;
        tmb_find(v, TMB_CHECK_EXPERT_NAMES, TMB_WARNING, 0, m->name,
                 "%s has no expert of this name: engines look for the names of the original "
                 "checkpoint and do not "
                 "find these; rename them as in the source",
                 v->model->model_type);
    }
}

void tmb_check_structure(tmb_verifier *v)
{
    tmb_structure s = {.v = v};
    int32_t layers = 0;
    for (uint32_t i = 0; i < v->n_modules; i++)
        if (v->modules[i].layer > layers) layers = v->modules[i].layer;
    s.routed = tmb_arena_alloc(&v->scratch, (size_t)layers + 1);
    if (!s.routed || !find_runs(&s)) {
        v->no_memory = true;
        return;
    }
    for (uint32_t i = 0; i < v->n_modules; i++) {
        const tmb_module *m = &v->modules[i];
        if (m->layer >= 0 && m->role == TMB_ROLE_ROUTER && m->linear) s.routed[m->layer] = 1;
    }
    for (uint32_t i = 0; i < s.n_runs; i++) {
        check_run(&s, &s.runs[i]);
        check_shapes(&s, &s.runs[i]);
        check_router(&s, &v->modules[s.runs[i].first]);
    }
    check_hidden(&s);
    check_stacks(&s);
    check_names(&s);
    if (v->model->n_layers > 0) check_layers(&s, (size_t)v->model->n_layers);
}
