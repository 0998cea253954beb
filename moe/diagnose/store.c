/* store.c - the figures of a diagnosis as arrays of routing.h5. */
#include "config.h"
#include "moe/diagnose/traces.h"

#include <stddef.h>
#include <stdlib.h>

static tmb_status put_metrics(const tmb_diagnosis *d, tmb_store *store, tmb_err *err)
{
    const char *names[TMB_METRICS];
    uint64_t overall[] = {TMB_METRICS, 3}, layers[] = {d->n_layers, TMB_METRICS, 3};
    for (int m = 0; m < TMB_METRICS; m++)
        names[m] = tmb_metric_of((tmb_metric)m)->name;
    TRY(tmb_store_put_texts(store, "metrics/names", names, TMB_METRICS, err));
    TRY(tmb_store_put(store, "metrics/overall", TMB_STORE_F64, 2, overall, d->overall, err));
    TRY(tmb_store_begin(store, "metrics/layers", TMB_STORE_F64, 3, layers, err));
    for (size_t l = 0; l < d->n_layers; l++)
        TRY(tmb_store_more(store, d->layers[l].metrics, 1, err));
    return tmb_store_end(store, err);
}

static tmb_status put_margins(const tmb_diagnosis *d, tmb_store *store, tmb_err *err)
{
    static const struct {
        const char *name;
        size_t at;
    } parts[] = {
        {"margins/ref", offsetof(tmb_margins, ref)},
        {"margins/other", offsetof(tmb_margins, other)},
        {"margins/flips", offsetof(tmb_margins, flips)},
        {"margins/local", offsetof(tmb_margins, local)},
        {"margins/noise", offsetof(tmb_margins, noise)},
        {"margins/noise_of", offsetof(tmb_margins, noise_of)},
    };
    static const tmb_margins none; /* of a dense layer */
    double edges[TMB_MARGIN_BINS];
    uint64_t dims[] = {d->n_layers, TMB_MARGIN_BINS};
    for (size_t b = 0; b < TMB_MARGIN_BINS; b++)
        edges[b] = tmb_margin_edge(b);
    TRY(tmb_store_put(store, "margins/edges", TMB_STORE_F64, 1, &dims[1], edges, err));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        TRY(tmb_store_begin(store, parts[i].name, TMB_STORE_U64, 2, dims, err));
        for (size_t l = 0; l < d->n_layers; l++) {
            const tmb_margins *m = d->layers[l].margins ? d->layers[l].margins : &none;
            TRY(tmb_store_more(store, (const char *)m + parts[i].at, 1, err));
        }
        TRY(tmb_store_end(store, err));
    }
    return TMB_OK;
}

static tmb_status put_experts(const tmb_diagnosis *d, tmb_store *store, tmb_err *err)
{
    static const struct {
        const char *name;
        size_t at;
    } parts[] = {
        {"experts/ref", offsetof(tmb_diag_expert, ref)},
        {"experts/other", offsetof(tmb_diag_expert, other)},
        {"experts/gained", offsetof(tmb_diag_expert, gained)},
        {"experts/lost", offsetof(tmb_diag_expert, lost)},
    };
    size_t most = 0;
    for (size_t l = 0; l < d->n_layers; l++)
        most = d->layers[l].n_experts > most ? d->layers[l].n_experts : most;
    if (!most) return TMB_OK;
    uint64_t dims[] = {d->n_layers, most}, *row = malloc(most * sizeof *row);
    if (!row) return tmb_fail_memory(err, most * 8, "experts");
    tmb_status status = TMB_OK;
    for (size_t i = 0; !status && i < sizeof parts / sizeof *parts; i++) {
        status = tmb_store_begin(store, parts[i].name, TMB_STORE_U64, 2, dims, err);
        for (size_t l = 0; !status && l < d->n_layers; l++) {
            const tmb_diag_layer *layer = &d->layers[l];
            for (size_t e = 0; e < most; e++)
                row[e] = e < layer->n_experts
                             ? *(const uint64_t *)((const char *)&layer->experts[e] + parts[i].at)
                             : 0;
            status = tmb_store_more(store, row, 1, err);
        }
        if (!status) status = tmb_store_end(store, err);
    }
    free(row);
    return status;
}

tmb_status tmb_diagnosis_store(const tmb_diagnosis *d, tmb_store *store, tmb_err *err)
{
    TRY(put_metrics(d, store, err));
    TRY(put_margins(d, store, err));
    return put_experts(d, store, err);
}
