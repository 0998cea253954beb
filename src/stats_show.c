/* stats_show.c - tombac stats show: coverage and ranges, layer by layer. */
#include "config.h"
#include "src/commands.h"
#include "src/stats.h"
#include "src/table.h"
#include "src/text.h"

#include "moe/calib/coverage.h"
#include "moe/calib/scales.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    const char *layer;
    bool inputs;
} options;

/* What the coverage table says of a layer. */
typedef struct coverage {
    uint64_t tokens, least, median, most, starved, rungs[TMB_RUNGS];
    double spread, ties; /* standard deviation of load over its mean; share of tokens */
    uint32_t experts;
} coverage;

/* ------------------------------------------------------------------------------ figures */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static const tmb_site *expert_site(const tmb_stats_layer *l)
{
    for (uint32_t s = 0; s < l->n_sites; s++)
        if (l->sites[s].expert) return &l->sites[s];
    return NULL;
}

static tmb_status cover(const tmb_stats_layer *l, uint64_t min_tokens, coverage *c, tmb_err *err)
{
    const tmb_site *site = expert_site(l);
    memset(c, 0, sizeof *c);
    c->tokens = l->router ? l->router->tokens : l->n_sites ? l->sites[0].native[0].tokens : 0;
    if (!site) return TMB_OK;
    c->experts = site->n;
    uint64_t *load = malloc(site->n * sizeof *load), *shadow = malloc(site->n * sizeof *shadow);
    tmb_rung *rungs = malloc(site->n * sizeof *rungs);
    double mean = 0, square = 0;
    if (load && shadow && rungs) {
        for (uint32_t e = 0; e < site->n; e++) {
            load[e] = site->native[e].tokens;
            shadow[e] = site->shadow[e].tokens;
            mean += (double)load[e] / site->n;
        }
        for (uint32_t e = 0; e < site->n; e++)
            square += ((double)load[e] - mean) * ((double)load[e] - mean) / site->n;
        tmb_ladder(rungs, load, shadow, site->n, min_tokens, c->rungs);
        c->starved = tmb_starved(load, site->n, min_tokens, &c->least);
        qsort(load, site->n, sizeof *load, by_size);
        c->median = load[site->n / 2];
        c->most = load[site->n - 1];
        c->spread = mean > 0 ? sqrt(square) / mean : 0;
    }
    bool fine = load && shadow && rungs;
    free(load);
    free(shadow);
    free(rungs);
    if (l->router && l->router->tokens) c->ties = (double)l->router->ties / (double)c->tokens;
    return fine ? TMB_OK : tmb_fail_memory(err, site->n * 8, "the report");
}

/* All entries' histograms of blocks together. */
static void pool(const tmb_site *site, uint64_t bins[TMB_HIST_BINS])
{
    memset(bins, 0, TMB_HIST_BINS * sizeof *bins);
    for (uint32_t e = 0; e < site->n; e++)
        for (int i = 0; site->native[e].blocks && i < TMB_HIST_BINS; i++)
            bins[i] += site->native[e].blocks[i];
}

/* ------------------------------------------------------------------------------ tables */

static void head(const tmb_stats_file *f)
{
    char a[TMB_HUMAN_BYTES], b[TMB_HUMAN_BYTES], safe[TMB_ERR_BYTES];
    const tmb_stats_identity *id = &f->identity;
    printf("model      %s, SHA-256 %.16s\n", tmb_safe(safe, sizeof safe, id->model_type),
           tmb_safe(safe + 512, sizeof safe - 512, id->model_sha256));
    printf("content    SHA-256 %s\n", f->digest);
    printf("settings   hessian = %s, min_tokens = %llu\n", id->moments ? "block16" : "none",
           (unsigned long long)id->min_tokens);
    for (uint32_t i = 0; i < id->n_sources; i++)
        printf("%s%s: %s tokens in %s sequences\n", i ? "           " : "data       ",
               tmb_safe(safe, sizeof safe, id->sources[i].name),
               tmb_human_integer(a, id->sources[i].tokens),
               tmb_human_integer(b, id->sources[i].sequences));
    printf("manifest   ");
    tmb_print_wrapped(stdout, 11, tmb_safe(safe, sizeof safe, f->manifest));
    fputs("\n", stdout);
}

static void coverage_row(tmb_table *t, const tmb_stats_layer *l, const coverage *c)
{
    char label[TMB_LAYER_LABEL], kv[2][24] = {"-", "-"}, rungs[64] = "-";
    if (l->has_kv) snprintf(kv[0], 24, "%.3g", (double)tmb_bits_float(l->k_amax));
    if (l->has_v) snprintf(kv[1], 24, "%.3g", (double)tmb_bits_float(l->v_amax));
    tmb_layer_label(label, l->index);
    if (!c->experts) {
        tmb_table_row(t, "%s\t%llu\t-\t-\t-\t-\t-\t-\t-\t%s\t%s", label,
                      (unsigned long long)c->tokens, kv[0], kv[1]);
        return;
    }
    snprintf(rungs, sizeof rungs, "%llu/%llu/%llu/%llu", (unsigned long long)c->rungs[0],
             (unsigned long long)c->rungs[1], (unsigned long long)c->rungs[2],
             (unsigned long long)c->rungs[3]);
    tmb_table_row(t, "%s\t%llu\t%llu\t%llu\t%llu\t%llu\t%.2f\t%s\t%.2f %%\t%s\t%s", label,
                  (unsigned long long)c->tokens, (unsigned long long)c->least,
                  (unsigned long long)c->median, (unsigned long long)c->most,
                  (unsigned long long)c->starved, c->spread, rungs, 100 * c->ties, kv[0], kv[1]);
}

static const char coverage_heads[] =
    ">layer|>tokens|>least|>median|>most|>starved|>spread|>rungs|>ties|>k amax|>v amax";

static void input_rows(tmb_table *t, const tmb_stats_layer *l, uint64_t min_tokens)
{
    char label[TMB_LAYER_LABEL];
    for (uint32_t s = 0; s < l->n_sites; s++) {
        const tmb_site *site = &l->sites[s];
        uint64_t bins[TMB_HIST_BINS];
        tmb_range r = tmb_range_shared(site, min_tokens);
        pool(site, bins);
        float room = tmb_headroom(bins, r.amax);
        tmb_window max = tmb_window_of(bins, r.amax, r.amax);
        tmb_window head_room = tmb_window_of(bins, r.amax, room);
        tmb_table_row(t, "%s\t%u\t%llu\t%.4g\t%.3g\t%.3f %%\t%.4g\t%.3f %%\t%s",
                      tmb_layer_label(label, l->index), site->n, (unsigned long long)r.tokens,
                      (double)r.amax, (double)max.least, 100 * max.below, (double)room,
                      100 * (head_room.below + head_room.above), site->name);
    }
}

static const char input_heads[] =
    ">layer|>entries|>tokens|>amax|>1 % block|>lost|>headroom|>lost|<input of";

static void expert_rows(tmb_table *t, const tmb_stats_layer *l, uint64_t min_tokens)
{
    for (uint32_t s = 0; s < l->n_sites; s++) {
        const tmb_site *site = &l->sites[s];
        for (uint32_t e = 0; site->expert && e < site->n; e++) {
            tmb_range r = tmb_range_of(site, e, min_tokens);
            tmb_table_row(t, "%u\t%llu\t%.2f\t%.3f\t%llu\t%.4g\t%.4g\t%s\t%s", e,
                          (unsigned long long)r.tokens, ldexp((double)site->native[e].gate, -32),
                          ldexp((double)site->native[e].gate2, -32),
                          (unsigned long long)site->shadow[e].tokens, (double)r.own, (double)r.amax,
                          tmb_rung_name(r.rung), site->name);
        }
    }
}

static const char expert_heads[] =
    ">expert|>tokens|>gates|>gates^2|>shadow|>amax|>range|rung|<input of";

/* ------------------------------------------------------------------------------ JSON */

static void emit_site(tmb_emit *e, tmb_json *sites, const tmb_site *site, uint64_t min_tokens)
{
    tmb_json *o = tmb_emit_item(e, sites);
    tmb_emit_text(e, o, "name", site->name);
    tmb_emit_append(e, tmb_emit_array(e, o, "linears"), site->linears, site->n_linears);
    tmb_emit_int(e, o, "channels", site->in);
    tmb_json *entries = tmb_emit_array(e, o, site->expert ? "experts" : "entries");
    for (uint32_t i = 0; i < site->n; i++) {
        const tmb_accum *a = &site->native[i];
        tmb_range r = tmb_range_of(site, i, min_tokens);
        tmb_json *item = tmb_emit_item(e, entries);
        float scale;
        tmb_emit_int(e, item, "tokens", a->tokens);
        tmb_emit_num(e, item, "amax", (double)r.own);
        tmb_emit_text(e, item, "rung", tmb_rung_name(r.rung));
        if (site->expert) {
            tmb_emit_int(e, item, "shadow_tokens", site->shadow[i].tokens);
            tmb_emit_num(e, item, "gate_mass", ldexp((double)a->gate, -32));
            tmb_emit_num(e, item, "gate2_mass", ldexp((double)a->gate2, -32));
        }
        if (r.known) tmb_emit_num(e, item, "range", (double)r.amax);
        if (r.known && a->blocks)
            tmb_emit_num(e, item, "headroom", (double)tmb_headroom(a->blocks, r.amax));
        if (r.known && tmb_fp8_input_scale(r.amax, &scale))
            tmb_emit_num(e, item, "fp8_input_scale", (double)scale);
        if (r.known && tmb_nvfp4_input_scale(r.amax, &scale))
            tmb_emit_num(e, item, "nvfp4_input_scale", (double)scale);
    }
}

static void emit_layer(tmb_emit *e, tmb_json *layers, const tmb_stats_layer *l, const coverage *c,
                       const tmb_stats_file *f)
{
    char label[TMB_LAYER_LABEL];
    tmb_json *o = tmb_emit_item(e, layers);
    tmb_emit_text(e, o, "layer", tmb_layer_label(label, l->index));
    tmb_emit_int(e, o, "tokens", c->tokens);
    if (c->experts) {
        tmb_emit_int(e, o, "starved", c->starved);
        tmb_emit_num(e, o, "spread", c->spread);
        tmb_json *rungs = tmb_emit_object(e, o, "rungs");
        for (int r = 0; r < TMB_RUNGS; r++)
            tmb_emit_int(e, rungs, tmb_rung_name((tmb_rung)r), c->rungs[r]);
    }
    if (l->router) {
        tmb_emit_int(e, o, "ties", l->router->ties);
        tmb_json *sources = tmb_emit_object(e, o, "experts_reached_by_source");
        for (uint32_t s = 0; s < l->router->sources; s++) {
            uint64_t reached = 0;
            for (uint32_t i = 0; i < l->router->experts; i++)
                reached += l->router->by_source[(size_t)s * l->router->experts + i] > 0;
            tmb_emit_int(e, sources, f->identity.sources[s].name, reached);
        }
    }
    if (l->has_kv) tmb_emit_num(e, o, "k_amax", (double)tmb_bits_float(l->k_amax));
    if (l->has_v) tmb_emit_num(e, o, "v_amax", (double)tmb_bits_float(l->v_amax));
    tmb_json *sites = tmb_emit_array(e, o, "inputs");
    for (uint32_t s = 0; s < l->n_sites; s++)
        emit_site(e, sites, &l->sites[s], f->identity.min_tokens);
}

/* ------------------------------------------------------------------------------ the command */

/* Each wanted layer, one at a time, to the table or to JSON. */
static tmb_status walk(tmb_stats_file *f, const options *o, tmb_table *t, tmb_emit *e,
                       tmb_json *layers, tmb_err *err)
{
    char label[TMB_LAYER_LABEL];
    bool found = !o->layer;
    for (uint32_t i = 0; i < f->n_layers; i++) {
        tmb_stats_layer *l = NULL;
        coverage c;
        if (o->layer && strcmp(o->layer, tmb_layer_label(label, f->layers[i])) != 0) continue;
        found = true;
        TRY(tmb_stats_read(f, i, false, &l, err));
        tmb_status status = cover(l, f->identity.min_tokens, &c, err);
        if (!status && e)
            emit_layer(e, layers, l, &c, f);
        else if (!status && o->layer)
            expert_rows(t, l, f->identity.min_tokens);
        else if (!status && o->inputs)
            input_rows(t, l, f->identity.min_tokens);
        else if (!status)
            coverage_row(t, l, &c);
        tmb_stats_layer_free(l);
        if (status) return status;
    }
    return found ? TMB_OK
                 : tmb_fail(err, TMB_EUSAGE, "%s: has no layer '%.20s'", f->path, o->layer);
}

static tmb_status show(tmb_stats_file *f, const options *o, tmb_err *err)
{
    tmb_table t;
    if (o->common.json) {
        tmb_emit e;
        tmb_emit_open(&e);
        tmb_stats_emit(&e, e.root, f);
        tmb_status status = walk(f, o, NULL, &e, tmb_emit_array(&e, e.root, "layers"), err);
        if (!status) return tmb_emit_print(&e, err);
        tmb_json_free(e.root);
        return status;
    }
    if (!o->common.quiet) head(f);
    tmb_table_open(&t, o->layer ? expert_heads : o->inputs ? input_heads : coverage_heads);
    tmb_status status = walk(f, o, &t, NULL, NULL, err);
    if (status) t.n_rows = 0; /* no table beside an error */
    if (!tmb_table_close(&t, 0, stdout) && !status) status = tmb_fail_memory(err, 0, "the report");
    if (!status && !o->layer && !o->inputs && !o->common.quiet)
        puts("\nrungs: experts with their own scale (native), by a shadow pass (shadow), drawn to "
             "their\npeers' (peers), without any (weight-only)");
    return status;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    tmb_stats_file *f = NULL;
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    TRY(tmb_stats_open(&f, operands[0], err));
    tmb_status status = show(f, &o, err);
    tmb_stats_close(f);
    return status;
}

static const tmb_arg args[] = {
    {"inputs", 0, TMB_ARG_FLAG, offsetof(options, inputs), NULL,
     "the range of every input, and what NVFP4's global scale would lose", NULL},
    {"layer", 0, TMB_ARG_TEXT, offsetof(options, layer), "N",
     "the experts of one layer, one by one", NULL},
    {0},
};

const tmb_command tmb_stats_show = {
    .name = "stats show",
    .synopsis = "FILE [--inputs | --layer N]",
    .about = "Coverage of experts, ranges and digest of a statistics file",
    .help = "  tombac stats show stats.h5\n"
            "  tombac stats show stats.h5 --layer 3\n",
    .operand = "statistics file",
    .least = 1,
    .most = 1,
    .args = args,
    .run = run,
};
