/* What a run shows and lets be changed: every Linear once, rows with their tokens, routers that
 * agree with the experts' rows, shadows that disturb nothing, hooks that do what they say. */
#include "config.h"
#include "moe/infer/forward.h"
#include "tests/reference.h"
#include "tests/tap.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

enum { TOKENS = 96, SEQUENCES = 2 };

typedef struct subject {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    int32_t ids[TOKENS];
} subject;

static bool open_subject(subject *s, const char *name, tmb_err *err)
{
    char path[4096], ref[4200];
    reference r = {.data = NULL};
    *s = (subject){.ckpt = NULL};
    snprintf(path, sizeof path, "%s/tests/data/forward/%s", getenv("srcdir"), name);
    snprintf(ref, sizeof ref, "%s/reference.safetensors", path);
    bool good = !tmb_checkpoint_open(&s->ckpt, path, err) &&
                !tmb_model_open(&s->model, s->ckpt, err) && !reference_open(&r, ref, err);
    const int64_t *ids = good ? reference_find(&r, "input_ids", NULL) : NULL;
    for (int i = 0; ids && i < TOKENS; i++)
        s->ids[i] = (int32_t)ids[i];
    reference_close(&r);
    return ids != NULL;
}

static void close_subject(subject *s)
{
    tmb_model_close(s->model);
    tmb_checkpoint_close(s->ckpt);
}

/* Hidden states behind all layers and logits: *out [TOKENS, hidden + vocab], malloc'ed. */
static tmb_status run(const subject *s, const tmb_decoder_options *o, const tmb_observer *observer,
                      const uint8_t *shadow, float **out, tmb_err *err)
{
    static const size_t begin[] = {0, TOKENS / 2, TOKENS};
    tmb_decoder *d;
    *out = NULL;
    TRY(tmb_decoder_open(&d, s->model, o, err));
    size_t hidden = tmb_decoder_config(d)->hidden, vocab = tmb_decoder_config(d)->vocab;
    float *x = malloc(TOKENS * (hidden + vocab) * sizeof *x);
    tmb_status status = tmb_decoder_embed(d, s->ids, TOKENS, x, err);
    for (int l = 0; !status && l < tmb_decoder_layers(d); l++) {
        tmb_batch b = {x, begin, SEQUENCES, observer, shadow};
        status = tmb_decoder_load(d, l, err);
        if (!status) status = tmb_decoder_run(d, &b, err);
    }
    if (!status) status = tmb_decoder_head(d, x, TOKENS, x + TOKENS * hidden, observer, err);
    tmb_decoder_close(d);
    *out = x;
    return status;
}

static size_t size_of(const subject *s)
{
    const tmb_unit *u = tmb_model_find(s->model, "lm_head");
    return u ? TOKENS * (size_t)(u->in + u->out) : 0;
}

/* ------------------------------------------------------------------ observing */

typedef struct notes {
    const tmb_model *model;
    int *native, *shadows;             /* [units] */
    size_t routed[8][64], rows[8][64]; /* by layer and expert: by the router, by the experts */
    double mass[8][64], gates[8][64];
    int routers, kvs;
    bool fine; /* shapes, order of tokens, order of layers */
    int last_layer, last_expert;
} notes;

static tmb_status see_linear(void *ctx, const tmb_linear_seen *seen, tmb_err *err)
{
    (void)err;
    notes *n = ctx;
    for (uint32_t i = 0; i < seen->n_units; i++) {
        const tmb_unit *u = &n->model->units[seen->units[i]];
        ++*(seen->shadow ? &n->shadows[seen->units[i]] : &n->native[seen->units[i]]);
        n->fine &= u->in == seen->in && u->layer == seen->layer && u->expert == seen->expert;
        n->fine &= i == 0 || seen->units[i] != seen->units[i - 1];
    }
    n->fine &= seen->layer < 0 || seen->layer >= n->last_layer;
    if (seen->layer >= 0) n->last_layer = seen->layer;
    if (seen->expert < 0 || seen->shadow) {
        n->fine &= seen->rows == TOKENS && !seen->token && !seen->gate;
        return TMB_OK;
    }
    for (size_t i = 1; i < seen->rows; i++)
        n->fine &= seen->token[i] > seen->token[i - 1] && seen->token[i] < TOKENS;
    if (n->model->units[seen->units[0]].proj != TMB_PROJ_GATE) return TMB_OK;
    n->rows[seen->layer][seen->expert] += seen->rows;
    for (size_t i = 0; i < seen->rows; i++)
        n->gates[seen->layer][seen->expert] += seen->gate[i];
    return TMB_OK;
}

static tmb_status see_router(void *ctx, const tmb_router_seen *r, tmb_err *err)
{
    (void)err;
    notes *n = ctx;
    n->routers++;
    for (size_t i = 0; i < r->tokens * r->top_k; i++) {
        n->routed[r->layer][r->chosen[i]]++;
        n->mass[r->layer][r->chosen[i]] += r->weight[i];
        n->fine &= i % r->top_k == 0 || r->chosen[i] > r->chosen[i - 1];
    }
    /* The chosen ones have the largest choice of their token. */
    for (size_t t = 0; t < r->tokens; t++) {
        const float *choice = r->choice + t * r->n_experts;
        for (size_t j = 0; j < r->top_k; j++) {
            size_t better = 0, e = r->chosen[t * r->top_k + j];
            for (size_t i = 0; i < r->n_experts; i++)
                better += choice[i] > choice[e];
            n->fine &= better < r->top_k;
        }
    }
    return TMB_OK;
}

static tmb_status see_kv(void *ctx, const tmb_kv_seen *k, tmb_err *err)
{
    (void)err;
    notes *n = ctx;
    n->kvs += k->tokens == TOKENS && k->k && k->k_width && (!k->v || k->v_width);
    return TMB_OK;
}

static void check_seen(const subject *s, const char *name, const float *want)
{
    tmb_err err = {0};
    notes n = {.model = s->model, .fine = true};
    n.native = calloc(s->model->n_units, sizeof *n.native);
    n.shadows = calloc(s->model->n_units, sizeof *n.shadows);
    tmb_observer o = {.linear = see_linear, .router = see_router, .kv = see_kv, .ctx = &n};
    uint8_t shadow[64] = {[1] = 1, [3] = 1};
    float *x = NULL;
    tmb_status status = run(s, &(tmb_decoder_options){.threads = 2}, &o, shadow, &x, &err);
    ok(!status && n.fine, "%s: what is shown has the shapes and the order it should %s", name,
       err.message);
    ok(x && !memcmp(x, want, size_of(s) * sizeof *x), "%s: observers and shadows change nothing",
       name);

    int wrong = 0, counted = 0;
    for (uint32_t i = 0; i < s->model->n_units; i++) {
        const tmb_unit *u = &s->model->units[i];
        bool text = u->linear && u->role != TMB_ROLE_MTP && u->role != TMB_ROLE_VISION;
        bool idle = u->expert >= 0 && u->layer >= 0 && text && !n.routed[u->layer][u->expert];
        wrong += n.native[i] != (text && !idle);
        wrong += n.shadows[i] != (text && (u->expert == 1 || u->expert == 3));
        counted += text;
    }
    ok(!wrong && counted, "%s: each of %d Linears is seen once, two experts of a layer twice", name,
       counted);
    int other = 0;
    for (int l = 0; l < 8; l++)
        for (int e = 0; e < 64; e++)
            other += n.rows[l][e] != n.routed[l][e] || fabs(n.gates[l][e] - n.mass[l][e]) > 1e-5;
    ok(!other && n.routers > 0, "%s: experts get the rows and weights that %d routers chose", name,
       n.routers);
    ok(n.kvs == s->model->n_layers, "%s: keys and values of each layer", name);
    free(n.native), free(n.shadows), free(x);
}

/* ------------------------------------------------------------------ hooks */

static tmb_status same_weight(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                              size_t rows, float *y, tmb_err *err)
{
    (void)ctx;
    return tmb_reader_rows(reader, unit, row, rows, y, err);
}

/* The o_proj of layer 1 becomes zero. */
static tmb_status no_output(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                            size_t rows, float *y, tmb_err *err)
{
    (void)ctx;
    TRY(tmb_reader_rows(reader, unit, row, rows, y, err));
    if (unit->layer == 1 && unit->proj == TMB_PROJ_O) memset(y, 0, rows * unit->in * sizeof *y);
    return TMB_OK;
}

static tmb_status broken_weight(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                                size_t rows, float *y, tmb_err *err)
{
    (void)ctx, (void)reader, (void)row, (void)rows, (void)y;
    return tmb_fail(err, TMB_EDATA, "no %s", unit->name);
}

static tmb_status same_rows(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                            tmb_err *err)
{
    (void)err;
    memcpy(y, seen->x, seen->rows * seen->in * sizeof *y);
    *changed = true;
    ++*(int *)ctx;
    return TMB_OK;
}

/* The input of layer 1's o_proj becomes zero. */
static tmb_status no_rows(void *ctx, const tmb_linear_seen *seen, float *y, bool *changed,
                          tmb_err *err)
{
    (void)err;
    const tmb_model *model = ctx;
    const tmb_unit *u = &model->units[seen->units[0]];
    *changed = u->layer == 1 && u->proj == TMB_PROJ_O;
    if (*changed) memset(y, 0, seen->rows * seen->in * sizeof *y);
    return TMB_OK;
}

static tmb_status no_values(void *ctx, const tmb_kv_seen *seen, float *k, float *v, tmb_err *err)
{
    (void)ctx, (void)err;
    if (seen->layer == 1)
        memset(v ? v : k, 0, seen->tokens * (v ? seen->v_width : seen->k_width) * sizeof *k);
    return TMB_OK;
}

/* The router's correction and biases of experts stay, norms become a half. */
static tmb_status half_norm(void *ctx, const tmb_tensor *tensor, uint64_t first, uint64_t step,
                            size_t n, float *values, tmb_err *err)
{
    (void)first, (void)step, (void)err;
    if (!strstr(tensor->name, "layers.1.input_layernorm")) return TMB_OK;
    for (size_t i = 0; i < n; i++)
        values[i] *= 0.5f;
    ++*(int *)ctx;
    return TMB_OK;
}

/* q, k and v (or what leads to them) of layer 1 become twice as large. */
static tmb_status double_inputs(void *ctx, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                                size_t rows, float *y, tmb_err *err)
{
    (void)ctx;
    TRY(tmb_reader_rows(reader, unit, row, rows, y, err));
    const char *leaf = strrchr(unit->name, '.');
    bool enters =
        leaf && (!strcmp(leaf, ".q_proj") || !strcmp(leaf, ".k_proj") || !strcmp(leaf, ".v_proj") ||
                 !strcmp(leaf, ".q_a_proj") || !strcmp(leaf, ".kv_a_proj_with_mqa"));
    for (size_t i = 0; unit->layer == 1 && enters && i < rows * unit->in; i++)
        y[i] *= 2.0f;
    return TMB_OK;
}

typedef struct chooser {
    int mode; /* 0: what is there, 1: the next expert, 2: no set */
    int calls;
} chooser;

static tmb_status choose(void *ctx, const tmb_router_seen *seen, uint32_t *chosen, bool *changed,
                         tmb_err *err)
{
    chooser *c = ctx;
    (void)err;
    c->calls++;
    *changed = true;
    for (size_t t = 0; c->mode == 1 && t < seen->tokens; t++)
        for (size_t j = 0; j < seen->top_k; j++)
            chosen[t * seen->top_k + j] = (uint32_t)j;
    if (c->mode == 2) chosen[0] = chosen[1];
    return TMB_OK;
}

static float *with(const subject *s, tmb_hooks hooks, tmb_status *status)
{
    tmb_err err = {0};
    float *x;
    tmb_decoder_options o = {.threads = 2, .hooks = hooks};
    *status = run(s, &o, NULL, NULL, &x, &err);
    return x;
}

static void check_hooks(const subject *s, const char *name, const float *want)
{
    size_t bytes = size_of(s) * sizeof *want;
    tmb_status status;
    int calls = 0;
    float *x = with(s, (tmb_hooks){.weight = same_weight}, &status);
    ok(!status && !memcmp(x, want, bytes),
       "%s: the weights as they are, through the hook: the same bytes", name);
    free(x);
    x = with(s, (tmb_hooks){.activation = same_rows, .ctx = &calls}, &status);
    ok(!status && calls > 10 && !memcmp(x, want, bytes), "%s: the rows as they are: the same bytes",
       name);
    free(x);

    float *no_o = with(s, (tmb_hooks){.weight = no_output}, &status);
    x = with(s, (tmb_hooks){.activation = no_rows, .ctx = s->model}, &status);
    ok(!status && memcmp(x, want, bytes) != 0 && !memcmp(x, no_o, bytes),
       "%s: a zero weight and zero rows give the same, and not what was", name);
    free(x);
    x = with(s, (tmb_hooks){.kv = no_values}, &status);
    bool latent = tmb_model_find(s->model, "model.layers.0.self_attn.kv_b_proj") != NULL;
    ok(!status && memcmp(x, want, bytes) != 0 && (latent || !memcmp(x, no_o, bytes)),
       "%s: changed values are what attention reads", name);
    free(x);
    free(no_o);
    calls = 0;
    x = with(s, (tmb_hooks){.vector = half_norm, .ctx = &calls}, &status);
    ok(!status && calls == 1 && memcmp(x, want, bytes) != 0, "%s: a norm through the hook", name);
    free(x);
    calls = 0;
    x = with(s, (tmb_hooks){.vector = half_norm, .weight = double_inputs, .ctx = &calls}, &status);
    ok(!status && !memcmp(x, want, bytes), "%s: half a norm and twice the weights: the same bytes",
       name);
    free(x);
    chooser c = {0};
    x = with(s, (tmb_hooks){.route = choose, .ctx = &c}, &status);
    ok(!status && c.calls && !memcmp(x, want, bytes), "%s: the same experts: the same bytes", name);
    free(x);
    c.mode = 1;
    x = with(s, (tmb_hooks){.route = choose, .ctx = &c}, &status);
    ok(!status && memcmp(x, want, bytes) != 0, "%s: other experts are what runs", name);
    free(x);
    c.mode = 2;
    x = with(s, (tmb_hooks){.route = choose, .ctx = &c}, &status);
    ok(status == TMB_EINTERNAL, "%s: what is no set of experts is refused", name);
    free(x);
    x = with(s, (tmb_hooks){.weight = broken_weight}, &status);
    ok(status == TMB_EDATA, "%s: a hook that fails ends the run", name);
    free(x);
}

int main(void)
{
    /* No biases on o_proj here, so that nothing goes through when it is zero. */
    static const char *const names[] = {"qwen2_moe", "deepseek_v3", "glm4_moe"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        subject s;
        tmb_err err = {0};
        float *want = NULL;
        if (open_subject(&s, names[i], &err) &&
            !run(&s, &(tmb_decoder_options){.threads = 1}, NULL, NULL, &want, &err)) {
            check_seen(&s, names[i], want);
            check_hooks(&s, names[i], want);
        } else {
            ok(0, "%s: %s", names[i], err.message);
        }
        free(want);
        close_subject(&s);
    }
    return done();
}
