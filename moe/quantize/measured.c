/* measured.c - scales of activations from a file of statistics.
 *
 * moe/calib/scales.h chooses the range of each input; here it becomes the number that a format
 * wants: amax / 448 for static FP8, g / 2688 for NVFP4. */
#include "config.h"
#include "moe/quantize/measured.h"

#include "moe/calib/file.h"
#include "moe/calib/scales.h"
#include "moe/layout/modules.h"
#include "moe/model/fingerprint.h"
#include "moe/quantize/weighing.h"

#include <string.h>

/* The loader's own copy while it is filled; plan->measured points to it afterwards. */
typedef struct filling {
    tmb_plan *plan;
    tmb_measured *to;
    float *input, *k, *v;
    tmb_act_rule rule;
    const char *path;
    uint64_t blocks[TMB_HIST_BINS]; /* scratch */
} filling;

static bool wants(const tmb_plan *plan, uint32_t u)
{
    const tmb_spec *spec = plan->job.assignment->choices[u].spec;
    return spec->format && plan->layout->stores_input && plan->layout->stores_input(spec);
}

/* The block maxima of all entries of a site. */
static void all_blocks(const tmb_site *site, uint64_t blocks[TMB_HIST_BINS])
{
    memset(blocks, 0, TMB_HIST_BINS * sizeof *blocks);
    for (uint32_t e = 0; e < site->n; e++)
        for (int b = 0; site->native[e].blocks && b < TMB_HIST_BINS; b++)
            blocks[b] += site->native[e].blocks[b];
}

/* One scale for all experts of a layer: vLLM, SGLang and TensorRT-LLM run a layer's experts as one
 * GEMM under the largest of their input scales, so a smaller one of an expert would only be a
 * number that nobody uses.  ModelOpt's export has one for all as well. */
static bool site_scale(filling *f, const tmb_site *site, tmb_act act, float *scale)
{
    tmb_range r = tmb_range_shared(site, 0);
    if (!r.known) return false;
    if (act == TMB_ACT_STATIC) return tmb_fp8_input_scale(r.amax, scale);
    all_blocks(site, f->blocks);
    return tmb_nvfp4_input_scale(tmb_global_amax(f->rule, f->blocks, r.amax), scale);
}

static void fill_unit(filling *f, const tmb_stats_layer *layer, uint32_t u)
{
    tmb_site_ref at;
    float scale;
    if (tmb_stats_find_name(layer, f->plan->job.model->units[u].name, &at) &&
        site_scale(f, &layer->sites[at.site], f->plan->job.assignment->choices[u].spec->format->act,
                   &scale))
        f->input[u] = scale;
}

static void fill_layer(filling *f, const tmb_stats_layer *layer)
{
    const tmb_model *model = f->plan->job.model;
    bool head = layer->index == TMB_STATS_HEAD;
    for (uint32_t u = 0; u < model->n_units; u++) {
        const tmb_unit *unit = &model->units[u];
        bool here = head ? unit->role == TMB_ROLE_LM_HEAD : unit->layer == layer->index;
        if (here && unit->linear && wants(f->plan, u)) fill_unit(f, layer, u);
    }
    if (head || layer->index < 0 || layer->index >= f->to->layers || !layer->has_kv) return;
    float scale;
    if (tmb_kv_scale(tmb_bits_float(layer->k_amax), &scale)) f->k[layer->index] = scale;
    if (tmb_kv_scale(tmb_bits_float(layer->v_amax), &scale)) f->v[layer->index] = scale;
}

static tmb_status same_checkpoint(const filling *f, const tmb_stats_file *file, tmb_err *err)
{
    char sha[TMB_SHA256_HEX];
    TRY(tmb_fingerprint(sha, f->plan->job.model->ckpt, err));
    if (strcmp(sha, file->identity.model_sha256) == 0) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE,
                    "%s: is of another checkpoint than %s (%.16s, not %.16s); calibrate this one",
                    f->path, f->plan->job.model->ckpt->path, file->identity.model_sha256, sha);
}

static tmb_status nothing_missing(const filling *f, tmb_err *err)
{
    const tmb_model *model = f->plan->job.model;
    for (uint32_t u = 0; u < model->n_units; u++)
        if (wants(f->plan, u) && !(f->input[u] > 0))
            return tmb_fail(err, TMB_EDATA,
                            "%s: says nothing of the input of %s, and %s stores its scale; "
                            "calibrate with data that reaches it, or give it a format without "
                            "static activations",
                            f->path, model->units[u].name,
                            f->plan->job.assignment->choices[u].spec->name);
    if (!tmb_kv_fp8(&f->plan->job) || (model->arch->quirks & TMB_QUIRK_MLA)) return TMB_OK;
    for (uint32_t u = 0; u < model->n_units; u++) {
        int l = model->units[u].layer;
        if (tmb_takes_kv_scales(&model->units[u]) && l >= 0 && l < f->to->layers && !(f->k[l] > 0))
            return tmb_fail(err, TMB_EDATA,
                            "%s: says nothing of the KV cache of layer %d; write [kv_cache] format "
                            "= none, or calibrate again",
                            f->path, l);
    }
    return TMB_OK;
}

static tmb_status fill(filling *f, tmb_stats_file *file, tmb_err *err)
{
    TRY(same_checkpoint(f, file, err));
    f->to->content = tmb_arena_text(&f->plan->arena, file->digest, strlen(file->digest));
    if (!f->to->content) return tmb_fail_memory(err, TMB_SHA256_HEX, "a digest");
    TRY(tmb_weighing_plan(f->plan, file, err));
    for (uint32_t i = 0; i < file->n_layers; i++) {
        tmb_stats_layer *layer = NULL;
        TRY(tmb_stats_read(file, i, false, &layer, err));
        fill_layer(f, layer);
        tmb_status status = tmb_weighing_find(f->plan, layer, i, err);
        tmb_stats_layer_free(layer);
        if (status) return status;
    }
    tmb_weighing_count(f->plan);
    return nothing_missing(f, err);
}

tmb_status tmb_measure(tmb_plan *plan, tmb_err *err)
{
    const tmb_model *model = plan->job.model;
    int layers = model->n_layers > 0 ? model->n_layers : 0;
    tmb_arena *a = &plan->arena;
    filling f = {.plan = plan, .path = plan->options.stats};
    f.rule = plan->job.recipe->calibration.headroom ? TMB_ACT_HEADROOM : TMB_ACT_MAX;
    f.to = tmb_arena_alloc(a, sizeof *f.to);
    f.input = tmb_arena_alloc(a, (model->n_units + 1) * sizeof *f.input);
    f.k = tmb_arena_alloc(a, ((size_t)layers + 1) * sizeof *f.k);
    f.v = tmb_arena_alloc(a, ((size_t)layers + 1) * sizeof *f.v);
    if (!f.to || !f.input || !f.k || !f.v)
        return tmb_fail_memory(err, (uint64_t)model->n_units * 4, "scales of activations");
    *f.to = (tmb_measured){.input = f.input, .k = f.k, .v = f.v, .layers = layers};
    tmb_stats_file *file = NULL;
    tmb_status status = tmb_stats_open(&file, plan->options.stats, err);
    if (!status) status = fill(&f, file, err);
    tmb_stats_close(file);
    if (!status) plan->job.measured = f.to;
    return status;
}
