/* traces.c - every token's routing, gathered from the ranks. */
#include "config.h"
#include "moe/diagnose/traces.h"

#include "moe/diagnose/lockstep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Rows of tokens [.., width] of 4-byte elements from all ranks, as tokens/NAME. */
static tmb_status put(tmb_store *store, const tmb_lock_rank *r, const char *name,
                      tmb_store_type type, const void *mine, size_t width, tmb_err *err)
{
    tmb_spill spill = {.folder = r->job->options->scratch};
    uint64_t tokens = r->job->data->tokens, dims[] = {tokens, width};
    void *all = NULL;
    char path[TMB_STORE_NAME];
    tmb_status status = tmb_spill_array(&spill, tokens, width, 4, &all, err);
    if (!status) status = tmb_lock_gather_tokens(r, all, mine, width * 4, err);
    snprintf(path, sizeof path, "tokens/%s", name);
    if (!status && store)
        status = tmb_store_put(store, path, type, width > 1 ? 2 : 1, dims, all, err);
    tmb_spill_close(&spill);
    return status;
}

tmb_status tmb_traces_begin(tmb_store *store, const tmb_lock_rank *r, tmb_err *err)
{
    const tmb_data *data = r->job->data;
    uint64_t n = data->n_sequences, dims[] = {n + 1}, *begin;
    if (!store) return TMB_OK;
    begin = calloc(n + 1, sizeof *begin);
    if (!begin) return tmb_fail_memory(err, n * 8, "the sequences");
    for (size_t s = 0; s < n; s++)
        begin[s + 1] = begin[s] + data->sequences[s].n;
    tmb_status status = tmb_store_put(store, "tokens/begin", TMB_STORE_U64, 1, dims, begin, err);
    free(begin);
    if (status) return status;
    TRY(tmb_store_begin(store, "tokens/ids", TMB_STORE_I32, 1, &data->tokens, err));
    for (size_t s = 0; s < n; s++)
        TRY(tmb_store_more(store, data->sequences[s].ids, data->sequences[s].n, err));
    return tmb_store_end(store, err);
}

tmb_status tmb_traces_layer(tmb_store *store, const tmb_lock_rank *r, tmb_err *err)
{
    const struct {
        const char *name;
        tmb_store_type type;
        const void *rows;
        size_t width;
    } arrays[] = {
        {"ref_logits", TMB_STORE_F32, r->logits, r->shape.n_experts},
        {"ref_chosen", TMB_STORE_U32, r->ref.chosen, r->shape.top_k},
        {"ref_weight", TMB_STORE_F32, r->ref.weight, r->shape.top_k},
        {"other_logits", TMB_STORE_F32, r->other_logits, r->shape.n_experts},
        {"other_chosen", TMB_STORE_U32, r->variants[0].chosen, r->shape.top_k},
        {"other_weight", TMB_STORE_F32, r->variants[0].weight, r->shape.top_k},
        {"ref_choice", TMB_STORE_F32, r->choice, r->shape.n_experts},
    };
    size_t n = sizeof arrays / sizeof *arrays -
               (r->shape.space == TMB_MARGIN_LOGIT && r->shape.groups <= 1);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "layer_%03d/%s", r->layer, arrays[i].name);
        TRY(put(store, r, name, arrays[i].type, arrays[i].rows, arrays[i].width, err));
    }
    return TMB_OK;
}

tmb_status tmb_traces_end(tmb_store *store, const tmb_lock_rank *r, tmb_err *err)
{
    for (size_t s = 0; s < r->all.n; s++)
        r->trace_kl[r->all.begin[s + 1] - 1] = NAN; /* its next token is not known */
    return put(store, r, "kl", TMB_STORE_F32, r->trace_kl, 1, err);
}
