/* finish.c - what all ranks found in a layer, put together by rank 0: figures and their intervals.
 */
#include "config.h"
#include "moe/diagnose/lockstep.h"

#include "kernels/base/team.h"
#include "moe/diagnose/formula.h"
#include "moe/diagnose/noise.h"
#include "moe/diagnose/traces.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of rank 0. */
typedef struct tmb_lock_sum {
    double *sums;   /* [all sequences, TMB_TALLY] of the layer; every rank has it, for the gather */
    uint32_t *load; /* [all sequences, 2, E] */
    double *draws;  /* [replicates, TMB_METRICS] of the layer */
    double *over;   /* [replicates, TMB_METRICS] of all layers so far */
    double value[TMB_METRICS], layer[TMB_METRICS];
    size_t ep;
    bool same; /* nothing differed so far */
} tmb_lock_sum;

static size_t replicates(const tmb_lock_rank *r)
{
    return r->job->boot.replicates;
}

static tmb_store *store_of(const tmb_lock_rank *r)
{
    return r->leads ? *r->job->diagnose->store : NULL;
}

tmb_status tmb_lock_sum_open(tmb_lock_rank *r, tmb_err *err)
{
    size_t all = r->job->data->n_sequences, e = r->shape.n_experts,
           each = replicates(r) * TMB_METRICS;
    tmb_lock_sum *s = r->sum = calloc(1, sizeof *s);
    if (!s) return tmb_fail_memory(err, sizeof *s, "sums");
    s->same = true;
    s->ep = r->job->diagnose->ep_ranks ? r->job->diagnose->ep_ranks : 8;
    if (e && s->ep > e) s->ep = e;
    s->sums = calloc(all * TMB_TALLY + 1, sizeof *s->sums);
    s->load = calloc(all * 2 * e + 1, sizeof *s->load);
    if (!s->sums || !s->load) return tmb_fail_memory(err, all * (TMB_TALLY + e) * 8, "sums");
    if (!r->leads) return TMB_OK;
    s->draws = calloc(each, sizeof *s->draws);
    s->over = calloc(each, sizeof *s->over);
    r->job->diagnosis = tmb_diagnosis_new(r->job->layers);
    if (!s->draws || !s->over || !r->job->diagnosis)
        return tmb_fail_memory(err, each * 16, "the bootstrap");
    if (r->job->diagnose->routing)
        TRY(tmb_store_create(r->job->diagnose->store, r->job->diagnose->routing, TMB_TRACES_KIND,
                             TMB_TRACES_VERSION, err));
    if (!r->job->traces) return TMB_OK;
    return tmb_traces_begin(store_of(r), r, err);
}

void tmb_lock_sum_close(tmb_lock_rank *r)
{
    tmb_lock_sum *s = r->sum;
    if (!s) return;
    free(s->sums);
    free(s->load);
    free(s->draws);
    free(s->over);
    free(s);
    r->sum = NULL;
}

/* Where 99 % of the rerun's margins moved less: the upper edge of that bin. */
tmb_status tmb_lock_noise_margin(tmb_lock_rank *r, tmb_err *err)
{
    uint64_t all = 0, below = 0;
    r->noise_margin = 0;
    TRY(tmb_comm_allreduce(r->comm, r->moved, TMB_MARGIN_BINS, TMB_SUM_U64, err));
    for (size_t i = 0; i < TMB_MARGIN_BINS; i++)
        all += r->moved[i];
    for (size_t i = 0; all && i < TMB_MARGIN_BINS; i++) {
        below += r->moved[i];
        if (below < all - all / 100) continue;
        r->noise_margin = i ? tmb_margin_edge(i + 1) : 0;
        break;
    }
    return TMB_OK;
}

/* --- resampling ----------------------------------------------------------------------------- */

typedef struct resampling {
    const tmb_lock_rank *r;
    int failed;
} resampling;

/* One replicate of the layer's metrics; replicate == replicates: the data as they are. */
static void resample(void *ctx, size_t b)
{
    resampling *job = ctx;
    const tmb_lock_rank *r = job->r;
    const tmb_boot *boot = &r->job->boot;
    size_t n = r->sparse ? r->shape.n_experts : 0, all = boot->sequences;
    double sums[TMB_TALLY] = {0}, *load = calloc(3 * n + 1, sizeof *load);
    double *to = b < boot->replicates ? r->sum->draws + b * TMB_METRICS : r->sum->layer;
    if (!load) {
        __atomic_store_n(&job->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    for (size_t s = 0; s < all; s++) {
        double times = b < boot->replicates ? boot->times[b * all + s] : 1;
        const double *from = r->sum->sums + s * TMB_TALLY;
        const uint32_t *tokens = r->sum->load + s * 2 * r->shape.n_experts;
        if (times == 0) continue;
        for (int k = 0; k < TMB_TALLY; k++)
            sums[k] += times * from[k];
        for (size_t e = 0; e < 2 * n; e++)
            load[e] += times * tokens[e];
    }
    tmb_formula_layer(to, sums, load, load + n, &r->shape, r->sparse, r->sum->ep, load + 2 * n);
    free(load);
}

/* Figures of how uneven a load is, or how far one is from another: drawing sequences again adds to
 * them.  Counts of experts stay as they are drawn. */
static bool uneven(int m)
{
    bool count = m == TMB_M_DEAD || m == TMB_M_DEAD_REF || m == TMB_M_OVERLOADED ||
                 m == TMB_M_OVERLOADED_REF;
    return m >= TMB_M_LOAD && m < TMB_M_VALUES && !count;
}

/* Column m of rows [replicates, TMB_METRICS] as an interval. */
static tmb_status interval(const tmb_boot *boot, double value, const double *rows, int m,
                           tmb_interval *out, tmb_err *err)
{
    double *draws = malloc((boot->replicates + 1) * sizeof *draws);
    if (!draws) return tmb_fail_memory(err, boot->replicates * 8, "the bootstrap");
    for (uint32_t b = 0; b < boot->replicates; b++)
        draws[b] = rows[b * TMB_METRICS + (size_t)m];
    if (uneven(m)) tmb_boot_centre(boot, value, draws);
    *out = tmb_boot_interval(boot, value, draws);
    free(draws);
    return TMB_OK;
}

static tmb_status fill_metrics(tmb_lock_rank *r, tmb_diag_layer *layer, tmb_err *err)
{
    tmb_lock_sum *s = r->sum;
    const tmb_boot *boot = &r->job->boot;
    resampling job = {r, 0};
    tmb_team_each(r->threads, boot->replicates + 1, 8, resample, &job);
    if (job.failed) return tmb_fail_memory(err, r->shape.n_experts * 24, "the bootstrap");
    bool last = (size_t)r->layer + 1 == r->job->layers;
    for (int m = 0; m < TMB_M_OUTPUT; m++) {
        const tmb_metric_info *info = tmb_metric_of((tmb_metric)m);
        TRY(interval(boot, s->layer[m], s->draws, m, &layer->metrics[m], err));
        if (!(info->counts_all || r->sparse)) continue;
        if (info->over == TMB_OVER_LAST && !last) continue;
        s->value[m] += s->layer[m];
        for (uint32_t b = 0; b < boot->replicates; b++)
            s->over[b * TMB_METRICS + (size_t)m] += s->draws[b * TMB_METRICS + (size_t)m];
    }
    return TMB_OK;
}

/* --- a layer -------------------------------------------------------------------------------- */

/* Values are kept by layer; the gather wants them beside the rest. */
static void collect_values(tmb_lock_rank *r)
{
    for (size_t s = 0; s < r->all.n; s++) {
        size_t at = s * r->job->layers + (size_t)r->layer;
        double *sums = r->sums + s * TMB_TALLY;
        sums[TMB_T_ERROR] = r->error[at];
        sums[TMB_T_NORM] = r->norm[at];
        sums[TMB_T_LOCAL_ERROR] = r->local_error[at];
    }
}

static tmb_status fill_split(tmb_lock_rank *r, double *sum, tmb_err *err)
{
    tmb_diagnosis *d = r->job->diagnosis;
    double positions = sum[TMB_T_LOCAL_POSITIONS], total = sum[TMB_T_CENTRED];
    if (!d->splits) d->splits = tmb_arena_alloc(&d->arena, r->job->layers * sizeof *d->splits);
    if (!d->splits) return tmb_fail_memory(err, r->job->layers * sizeof *d->splits, "splits");
    if (positions == 0) return TMB_OK;
    tmb_split *s = &d->splits[d->n_splits++];
    *s = (tmb_split){.layer = r->layer};
    s->total = total / (positions * (double)r->shape.n_experts);
    if (total == 0) return TMB_OK;
    s->input = sum[TMB_T_SPLIT_INPUT] / total;
    s->weight = sum[TMB_T_SPLIT_WEIGHT] / total;
    s->both = sum[TMB_T_SPLIT_BOTH] / total;
    s->cross = 1 - s->input - s->weight - s->both;
    return TMB_OK;
}

static void fill_experts(const tmb_lock_rank *r, tmb_diag_layer *layer)
{
    size_t n = r->shape.n_experts;
    double step = ldexp(1, -TMB_MASS_BITS);
    for (size_t e = 0; e < n; e++) {
        tmb_diag_expert *x = &layer->experts[e];
        x->gained = (uint64_t)r->experts[e].gained;
        x->lost = (uint64_t)r->experts[e].lost;
        x->ref_mass = (double)r->experts[e].ref_mass * step;
        x->other_mass = (double)r->experts[e].other_mass * step;
        for (size_t s = 0; s < r->job->data->n_sequences; s++) {
            x->ref += r->sum->load[s * 2 * n + e];
            x->other += r->sum->load[s * 2 * n + n + e];
        }
    }
}

static tmb_status fill_layer(tmb_lock_rank *r, tmb_err *err)
{
    tmb_diagnosis *d = r->job->diagnosis;
    tmb_diag_layer *layer = &d->layers[r->layer];
    double sum[TMB_TALLY] = {0};
    for (size_t s = 0; s < r->job->data->n_sequences; s++)
        for (int k = 0; k < TMB_TALLY; k++)
            sum[k] += r->sum->sums[s * TMB_TALLY + (size_t)k];
    r->sum->same = r->sum->same && sum[TMB_T_ERROR] == 0 &&
                   sum[TMB_T_SAME] == sum[TMB_T_POSITIONS] && sum[TMB_T_CENTRED] == 0 &&
                   sum[TMB_T_COMMON] == 0;
    if (r->sparse) {
        TRY(tmb_diagnosis_sparse(d, (size_t)r->layer, r->shape.n_experts, r->shape.top_k, err));
        layer->space = r->shape.space;
        *layer->margins = r->margins;
        for (size_t i = 0; i < sizeof r->margins / 8; i++)
            ((uint64_t *)&d->margins)[i] += ((const uint64_t *)&r->margins)[i];
        if (r->noise.decoder || sum[TMB_T_NOISE_POSITIONS] > 0)
            layer->noise_margin = r->noise_margin;
        fill_experts(r, layer);
        TRY(fill_split(r, sum, err));
    }
    return fill_metrics(r, layer, err);
}

tmb_status tmb_lock_finish_layer(tmb_lock_rank *r, tmb_err *err)
{
    size_t e = r->shape.n_experts;
    collect_values(r);
    TRY(tmb_lock_gather(r, r->sum->sums, r->sums, TMB_TALLY * sizeof *r->sums, err));
    TRY(tmb_lock_gather(r, r->sum->load, r->load, 2 * e * sizeof *r->load, err));
    TRY(tmb_comm_allreduce(r->comm, &r->margins, sizeof r->margins / 8, TMB_SUM_U64, err));
    if (e)
        TRY(tmb_comm_allreduce(r->comm, r->experts, e * sizeof *r->experts / 8, TMB_SUM_I64, err));
    if (r->job->traces && r->sparse) TRY(tmb_traces_layer(store_of(r), r, err));
    return r->leads ? fill_layer(r, err) : TMB_OK;
}

/* --- the end -------------------------------------------------------------------------------- */

/* Overall figures of the layers' metrics. */
static tmb_status fill_overall(tmb_lock_rank *r, tmb_err *err)
{
    tmb_diagnosis *d = r->job->diagnosis;
    tmb_lock_sum *s = r->sum;
    for (int m = 0; m < TMB_M_OUTPUT; m++) {
        const tmb_metric_info *info = tmb_metric_of((tmb_metric)m);
        double n = (double)(info->counts_all ? d->n_layers : d->n_sparse);
        double by = info->over == TMB_OVER_MEAN ? n : 1;
        if (n == 0) continue;
        s->value[m] /= by;
        for (size_t b = 0; b < replicates(r); b++)
            s->over[b * TMB_METRICS + (size_t)m] /= by;
    }
    /* Drift overall is that of the means: a layer whose rerun changes nothing has none. */
    s->value[TMB_M_DRIFT] =
        tmb_formula_drift(s->value[TMB_M_SET_MATCH], s->value[TMB_M_NOISE_MATCH]);
    for (size_t b = 0; b < replicates(r); b++) {
        double *row = s->over + b * TMB_METRICS;
        row[TMB_M_DRIFT] = tmb_formula_drift(row[TMB_M_SET_MATCH], row[TMB_M_NOISE_MATCH]);
    }
    for (int m = 0; m < TMB_M_OUTPUT; m++)
        if (d->n_sparse || tmb_metric_of((tmb_metric)m)->counts_all)
            TRY(interval(&r->job->boot, s->value[m], s->over, m, &d->overall[m], err));
    return TMB_OK;
}

static tmb_interval through(tmb_interval i, double (*f)(double x))
{
    return (tmb_interval){f(i.value), f(i.lo), f(i.hi)};
}

static double to_bits(double nats)
{
    return nats / log(2);
}

static void fill_output(tmb_lock_rank *r, const double *p, size_t width)
{
    tmb_diagnosis *d = r->job->diagnosis;
    const tmb_boot *boot = &r->job->boot;
    tmb_interval ref = tmb_boot_ratio(boot, p + TMB_P_NLL_REF, p + TMB_P_SCORED, width),
                 other = tmb_boot_ratio(boot, p + TMB_P_NLL, p + TMB_P_SCORED, width);
    d->overall[TMB_M_KL] = tmb_boot_ratio(boot, p + TMB_P_KL, p + TMB_P_SCORED, width);
    d->overall[TMB_M_SAME_TOP1] = tmb_boot_ratio(boot, p + TMB_P_SAME, p + TMB_P_SCORED, width);
    d->overall[TMB_M_NOISE_KL] =
        tmb_boot_ratio(boot, p + TMB_P_NOISE_KL, p + TMB_P_NOISE_SCORED, width);
    d->overall[TMB_M_PPL_REF] = through(ref, exp);
    d->overall[TMB_M_PPL] = through(other, exp);
    d->overall[TMB_M_BITS_REF] = through(ref, to_bits);
    d->overall[TMB_M_BITS] = through(other, to_bits);
    for (size_t s = 0; s < boot->sequences; s++)
        d->manifest.scored += (uint64_t)p[s * width + TMB_P_SCORED];
}

static void fill_noise(tmb_lock_rank *r)
{
    tmb_diagnosis *d = r->job->diagnosis;
    const tmb_data *data = r->job->data;
    d->noise.what = r->job->noise ? tmb_noise_about() : NULL;
    for (size_t s = 0; r->job->noise && s < data->n_sequences; s += r->job->noise_step) {
        d->noise.sequences++;
        d->noise.tokens += data->sequences[s].n;
    }
    d->noise.set_match = d->overall[TMB_M_NOISE_MATCH];
    d->noise.kl = d->overall[TMB_M_NOISE_KL];
}

static tmb_status fill_manifest(tmb_lock_rank *r, tmb_err *err)
{
    tmb_diag_manifest *m = &r->job->diagnosis->manifest;
    tmb_arena *arena = &r->job->diagnosis->arena;
    const tmb_data *data = r->job->data;
    m->version = PACKAGE_VERSION;
    m->data_sha256 = tmb_arena_text(arena, data->sha256, strlen(data->sha256));
    m->sources = tmb_arena_alloc(arena, (data->n_sources + 1) * sizeof *m->sources);
    if (!m->data_sha256 || !m->sources) return tmb_fail_memory(err, 0, "the manifest");
    for (size_t i = 0; i < data->n_sources; i++) {
        const char *slash = strrchr(data->sources[i].path, '/');
        m->sources[i] = tmb_arena_printf(arena, "%s=%s", data->sources[i].name,
                                         slash ? slash + 1 : data->sources[i].path);
        if (!m->sources[i]) return tmb_fail_memory(err, 0, "the manifest");
    }
    m->n_sources = data->n_sources;
    m->sequences = data->n_sequences;
    m->tokens = data->tokens;
    m->seed = r->job->diagnose->seed;
    m->replicates = r->job->boot.replicates;
    m->ep_ranks = (uint32_t)r->sum->ep;
    return TMB_OK;
}

tmb_status tmb_lock_finish(tmb_lock_rank *r, tmb_err *err)
{
    size_t width = TMB_P_KL + r->job->n;
    double *p = calloc(r->job->data->n_sequences * width + 1, sizeof *p);
    if (!p) return tmb_fail_memory(err, r->job->data->n_sequences * width * 8, "predictions");
    tmb_status status = tmb_lock_gather(r, p, r->predicted, width * sizeof *p, err);
    if (!status && r->job->traces) status = tmb_traces_end(store_of(r), r, err);
    if (!status && r->leads) {
        fill_output(r, p, width);
        status = fill_overall(r, err);
        if (!status) status = fill_manifest(r, err);
        fill_noise(r);
        r->job->diagnosis->identical =
            r->sum->same && r->job->diagnosis->overall[TMB_M_KL].value == 0;
    }
    free(p);
    return status;
}

/* --- the whole ------------------------------------------------------------------------------ */

/* A quarter of the data is rerun, but 8192 tokens when there are as many. */
static size_t noise_step(uint64_t tokens)
{
    return tokens >= 4 * 8192 ? 4 : tokens >= 2 * 8192 ? (size_t)(tokens / 8192) : 1;
}

tmb_status tmb_diagnose(tmb_diagnosis **out, const tmb_variant *ref, const tmb_variant *other,
                        const tmb_data *data, const tmb_diagnose_options *options, tmb_err *err)
{
    tmb_lock_job job = {.ref = ref,
                        .variants = other,
                        .n = 1,
                        .data = data,
                        .options = &options->run,
                        .full = true,
                        .local = true,
                        .head = true,
                        .noise = !options->no_noise,
                        .noise_step = noise_step(data->tokens),
                        .diagnose = options,
                        .traces = options->traces};
    *out = NULL;
    if (options->routing) *options->store = NULL;
    TRY(tmb_boot_open(&job.boot, data->n_sequences, options->replicates, options->seed, err));
    tmb_status status = tmb_lock_run(&job, err);
    if (status)
        tmb_diagnosis_free(job.diagnosis);
    else
        *out = job.diagnosis;
    tmb_boot_close(&job.boot);
    return status;
}
