/* modelopt.c - the tensors of NVIDIA ModelOpt's export (unified Hugging Face checkpoint), which
 * vLLM, SGLang and TensorRT-LLM read.  Its configuration is in modelopt_config.c.
 *
 * Scales multiply, single numbers have rank 0.  Activation scales are stored even without
 * calibration: 1.0 casts, and a missing one is uninitialised memory in engines. */
#include "config.h"
#include "moe/layout/modelopt.h"
#include "moe/layout/modules.h"

#include <string.h>

static const char layout_name[] = "modelopt";

static const tmb_modelopt_format formats[] = {
    {"nvfp4", "NVFP4", 4, 16, 4, "weight_scale_2"},
    {"nvfp4-w4a16", "W4A16_NVFP4", 4, 16, 0, "weight_scale_2"},
    {"fp8", "FP8", 8, 0, 8, "weight_scale"},
    {"fp8-channel", "FP8_PER_CHANNEL_PER_TOKEN", 8, 0, 8, NULL},
    {"fp8-block", "FP8_PB_WO", 8, 128, 0, NULL},
    {"mxfp8", "MXFP8", 8, 32, 8, NULL},
};

const tmb_modelopt_format *tmb_modelopt_format_of(const tmb_format *format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, format->name) == 0) return &formats[i];
    return NULL;
}

static tmb_status accepts(const tmb_spec *spec, const tmb_unit *unit, bool mixed,
                          const char **warning, tmb_err *err)
{
    const char *name = spec->format->name;
    const char *text = NULL;
    if (!tmb_modelopt_format_of(spec->format))
        return tmb_fail(err, TMB_EUSAGE,
                        "%s: no loader reads %s in the modelopt layout; write layout = "
                        "compressed-tensors, or another format",
                        unit->name, name);
    if (strcmp(name, "fp8-channel") == 0)
        text = mixed
                   ? "SGLang reads fp8-channel beside other formats as BF16, without a word: use "
                     "fp8, or layout = compressed-tensors"
                   : "SGLang does not read fp8-channel in the modelopt layout: use fp8, or layout "
                     "= compressed-tensors";
    else if (strcmp(name, "fp8-block") == 0)
        text = "SGLang 0.5.23 refuses fp8-block in the modelopt layout, and vLLM 0.33 for experts: "
               "use fp8, or layout = compressed-tensors";
    else if (strcmp(name, "nvfp4-w4a16") == 0 && unit->expert >= 0)
        text = "SGLang 0.5.23 leaves the input scales of weight-only NVFP4 experts uninitialised, "
               "which Blackwell kernels use: write layout = compressed-tensors";
    if (warning) *warning = text;
    return TMB_OK;
}

static bool stores_input(const tmb_spec *spec)
{
    return spec->format->act == TMB_ACT_STATIC || spec->format->act == TMB_ACT_NVFP4;
}

static const char *activations(const tmb_spec *spec, bool measured)
{
    switch (spec->format->act) {
    case TMB_ACT_STATIC:
        return measured ? "static FP8, calibrated" : "static FP8, input_scale 1.0 (cast)";
    case TMB_ACT_NVFP4:
        return measured ? "NVFP4 blocks, calibrated" : "NVFP4 blocks, input_scale 1.0";
    case TMB_ACT_TOKEN:
        return "FP8 by token, at run time";
    case TMB_ACT_GROUP128:
        return "FP8 by token and 128 columns, at run time";
    case TMB_ACT_MX:
        return "MXFP8 blocks, at run time";
    case TMB_ACT_NONE:
        break;
    }
    return "16 bits";
}

/* The last part of a tensor's name, "" when this format has no such part here. */
static const char *suffix_of(const tmb_modelopt_format *f, tmb_part part)
{
    switch (part) {
    case TMB_PART_CODES:
        return "weight";
    case TMB_PART_SCALE:
        return "weight_scale";
    case TMB_PART_GLOBAL:
        return f->global ? f->global : "";
    case TMB_PART_INPUT:
        return "input_scale";
    default:
        return "";
    }
}

/* Reshapes the export's own way: [out] for channels, [rows, 1, columns, 1] for blocks. */
static void reshape_scale(const tmb_modelopt_format *f, tmb_spelled *s)
{
    if (strcmp(f->name, "fp8-channel") == 0) {
        s->rank = 1;
    } else if (strcmp(f->name, "fp8-block") == 0) {
        s->rank = 4;
        s->shape[2] = s->shape[1];
        s->shape[1] = s->shape[3] = 1;
    }
}

/* A stack stays in its tensor [E, in, out], codes packed along `in`; gate and up keep the rows
 * (here: columns) they came in.  One number serves the whole tensor. */
static const char *stack_spell(const tmb_unit *unit, tmb_part part, const char *suffix,
                               tmb_arena *arena, tmb_spelled *s)
{
    if (s->rank == 2) {
        const tmb_stored *v = &unit->stored;
        uint64_t out = unit->out * (unit->proj == TMB_PROJ_DOWN ? 1 : 2), in = s->shape[1];
        s->rank = 3;
        s->shape[0] = v->n_experts;
        s->shape[1] = in;
        s->shape[2] = out;
        s->base = v->index * in * out + v->first;
        s->row_stride = v->step ? v->step : 1;
        s->col_stride = out;
    }
    return part == TMB_PART_CODES ? unit->disk
                                  : tmb_arena_printf(arena, "%s_%s", unit->disk, suffix);
}

static int spell(const tmb_job_view *job, const tmb_unit *unit, const tmb_spec *spec,
                 tmb_arena *arena, tmb_spelled out[TMB_PARTS])
{
    const tmb_modelopt_format *f = tmb_modelopt_format_of(spec->format);
    int n = 0;
    for (int p = 0; f && p < TMB_PARTS; p++) {
        tmb_part part = (tmb_part)p;
        tmb_geometry g;
        const char *suffix = suffix_of(f, part);
        if (!*suffix || (part == TMB_PART_INPUT && !stores_input(spec))) continue;
        if (!spec->format->part(spec->format, part, unit->out, unit->in, &g)) continue;
        tmb_spelled *s = &out[n];
        tmb_spell_plain(s, part, &g, NULL);
        if (tmb_stays_stacked(job, unit))
            s->name = stack_spell(unit, part, suffix, arena, s);
        else
            s->name = tmb_arena_printf(arena, "%s.%s", unit->name, suffix);
        if (part == TMB_PART_SCALE && s->rank == 2) reshape_scale(f, s);
        if (!s->name) return 0;
        n++;
    }
    return n;
}

static tmb_status extras(const tmb_job_view *job, tmb_arena *arena, tmb_extra **out, size_t *n,
                         tmb_err *err)
{
    return tmb_kv_scales(job, true, 0, arena, out, n, err);
}

static tmb_status notes(const tmb_job_view *job, tmb_arena *arena, const char ***out, size_t *n,
                        tmb_err *err)
{
    *n = 0;
    *out = tmb_arena_alloc(arena, TMB_NOTES_MAX * sizeof **out);
    if (!*out) return tmb_fail_memory(err, TMB_NOTES_MAX * sizeof **out, "notes");
    tmb_common_notes(job, layout_name, *out, n);
    return TMB_OK;
}

const tmb_layout tmb_layout_modelopt = {
    .name = layout_name,
    .summary = "ModelOpt's export, for vLLM, SGLang and TensorRT-LLM",
    .accepts = accepts,
    .activations = activations,
    .stores_input = stores_input,
    .spell = spell,
    .extras = extras,
    .notes = notes,
    .config = tmb_modelopt_config,
};
