/* acts.c - how inputs are rounded in a checkpoint that is only planned: by the numbers that it
 * would store, read as acts_open.c reads them. */
#include "config.h"
#include "moe/eval/acts_facts.h"
#include "moe/fly/internal.h"

#include "moe/quantize/slot.h"

#include <stdlib.h>
#include <string.h>

/* Input scale of unit u as a loader has it; 0 when none is stored. */
static float input_of(const tmb_plan *plan, const uint32_t *first, uint32_t u)
{
    const tmb_measured *measured = plan->job.measured;
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
        const tmb_slot *slot = &plan->slots[s];
        if (slot->part != TMB_PART_INPUT) continue;
        float value = measured ? measured->input[slot->repeated ? first[slot->out] : u] : 1.0f;
        return slot->reciprocal ? 1.0f / (1.0f / value) : value;
    }
    return 0;
}

/* Of each out the unit that writes its number. */
static void find_writers(const tmb_plan *plan, uint32_t *first)
{
    for (uint32_t u = 0; u < plan->job.model->n_units; u++)
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++)
            if (plan->slots[s].part == TMB_PART_INPUT && !plan->slots[s].repeated)
                first[plan->slots[s].out] = u;
}

/* ---- the cache --------------------------------------------------------------------------------
 */

typedef struct search {
    const tmb_plan *plan;
    const tmb_acts *acts;
} search;

static tmb_status find_planned(void *ctx, const char *name, bool *found, float *scale, tmb_err *err)
{
    const search *s = ctx;
    for (uint32_t i = 0; !*found && i < s->plan->n_outs; i++) {
        const tmb_out *out = &s->plan->outs[i];
        if (out->kind != TMB_OUT_CONST || strcmp(out->name, name) != 0) continue;
        *scale = out->value;
        *found = true;
    }
    const tmb_tensor *t = *found ? NULL : tmb_checkpoint_find(s->plan->job.model->ckpt, name);
    if (!t) return TMB_OK;
    *found = true;
    return tmb_acts_number(s->acts, t, scale, err);
}

tmb_status tmb_fly_acts(tmb_acts **out, const tmb_plan *plan, const tmb_ops *ops, tmb_err *err)
{
    const tmb_model *model = plan->job.model;
    tmb_json *config = NULL;
    *out = NULL;
    uint32_t *first = calloc((size_t)plan->n_outs + 1, sizeof *first);
    if (!first) return tmb_fail_memory(err, plan->n_outs * sizeof *first, "activations");
    tmb_acts *a = NULL;
    tmb_status status = tmb_acts_new(&a, model, ops, err);
    find_writers(plan, first);
    for (uint32_t u = 0; !status && u < model->n_units; u++) {
        const tmb_format *format = plan->job.assignment->choices[u].spec->format;
        if (format && model->units[u].linear) tmb_acts_set(a, u, format, input_of(plan, first, u));
    }
    if (!status)
        status = tmb_json_parse(&config, plan->config_text, strlen(plan->config_text),
                                "config.json", true, err);
    search s = {plan, a};
    if (!status) status = tmb_acts_cache(a, config, find_planned, &s, err);
    tmb_json_free(config);
    free(first);
    if (status)
        tmb_acts_close(a);
    else
        *out = a;
    return status;
}
