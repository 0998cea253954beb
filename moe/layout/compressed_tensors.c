/* compressed_tensors.c - the tensors of the compressed-tensors library (llm-compressor), which
 * vLLM and SGLang read.  Its configuration is in ct_config.c, its patterns in ct_targets.c.
 *
 * Block scales multiply; global scales are divisors, stored as reciprocals.  Single numbers have
 * shape [1]. */
#include "config.h"
#include "moe/layout/ct.h"

#include <string.h>

#define FP8_DYNAMIC(STRATEGY, GROUP)                                                               \
    {                                                                                              \
        .bits = 8, .type = "float", .strategy = STRATEGY, .group = GROUP, .dynamic = "true"        \
    }
#define NVFP4_ARGS(DYNAMIC)                                                                        \
    {                                                                                              \
        .bits = 4, .type = "float", .strategy = "tensor_group", .group = 16, .dynamic = DYNAMIC,   \
        .scale_dtype = "torch.float8_e4m3fn"                                                       \
    }
#define MX_ARGS(BITS, DYNAMIC)                                                                     \
    {                                                                                              \
        .bits = BITS, .type = "float", .strategy = "group", .group = 32, .dynamic = DYNAMIC,       \
        .scale_dtype = "torch.uint8"                                                               \
    }

static const char layout_name[] = "compressed-tensors";

static const tmb_ct_format formats[] = {
    {.name = "nvfp4",
     .format = "nvfp4-pack-quantized",
     .codes = "weight_packed",
     .scale = "weight_scale",
     .global = "weight_global_scale",
     .input = "input_global_scale",
     .weights = NVFP4_ARGS("false"),
     .inputs = NVFP4_ARGS("local")},
    {.name = "nvfp4-w4a16",
     .format = "nvfp4-pack-quantized",
     .codes = "weight_packed",
     .scale = "weight_scale",
     .global = "weight_global_scale",
     .weights = NVFP4_ARGS("false")},
    /* Both engines assert a scale by tensor for experts whose weight has one by tensor; elsewhere
     * they take one by token, which is finer. */
    {.name = "fp8",
     .format = "float-quantized",
     .codes = "weight",
     .global = "weight_scale",
     .weights = {.bits = 8, .type = "float", .strategy = "tensor", .dynamic = "false"},
     .inputs = FP8_DYNAMIC("token", 0),
     .expert_inputs = FP8_DYNAMIC("tensor", 0)},
    {.name = "fp8-channel",
     .format = "float-quantized",
     .codes = "weight",
     .scale = "weight_scale",
     .weights = {.bits = 8, .type = "float", .strategy = "channel", .dynamic = "false"},
     .inputs = FP8_DYNAMIC("token", 0)},
    {.name = "fp8-block",
     .format = "float-quantized",
     .codes = "weight",
     .scale = "weight_scale",
     .weights = {.bits = 8, .type = "float", .strategy = "block", .block = 128, .dynamic = "false"},
     .inputs = FP8_DYNAMIC("group", 128)},
    {.name = "mxfp4",
     .format = "mxfp4-pack-quantized",
     .codes = "weight_packed",
     .scale = "weight_scale",
     .weights = MX_ARGS(4, "false")},
    {.name = "mxfp8",
     .format = "mxfp8-quantized",
     .codes = "weight",
     .scale = "weight_scale",
     .weights = MX_ARGS(8, "false"),
     .inputs = MX_ARGS(8, "true")},
    {.name = "int4",
     .format = "pack-quantized",
     .codes = "weight_packed",
     .scale = "weight_scale",
     .weights = {.bits = 4, .type = "int", .strategy = "group", .group = 128, .dynamic = "false"}},
};

const tmb_ct_format *tmb_ct_format_of(const tmb_format *format)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (strcmp(formats[i].name, tmb_format_family(format)) == 0) return &formats[i];
    return NULL;
}

static tmb_status accepts(const tmb_spec *spec, const tmb_unit *unit, bool mixed,
                          const char **warning, tmb_err *err)
{
    const char *name = tmb_format_family(spec->format);
    bool latent = strcmp(tmb_leaf(unit->name), "q_a_proj") == 0 ||
                  strcmp(tmb_leaf(unit->name), "kv_a_proj_with_mqa") == 0;
    const char *text = NULL;
    if (!tmb_ct_format_of(spec->format))
        return tmb_fail(err, TMB_EUSAGE,
                        "%s: no loader reads %s in the compressed-tensors layout; write layout = "
                        "modelopt, or another format",
                        unit->name, name);
    if (latent && (strcmp(name, "fp8") == 0 || strcmp(name, "nvfp4") == 0))
        text = "SGLang refuses one scale a tensor for q_a_proj and kv_a_proj_with_mqa in the "
               "compressed-tensors layout: use fp8-channel there, or layout = modelopt";
    else if (strcmp(name, "fp8-block") == 0)
        text = "SGLang refuses fp8-block in the compressed-tensors layout where it fuses Linears: "
               "use fp8-channel";
    else if (strcmp(name, "mxfp4") == 0)
        text = "SGLang refuses mxfp4 without activation scales: only vLLM loads it";
    else if (strcmp(name, "mxfp8") == 0)
        text = "SGLang refuses mxfp8 in the compressed-tensors layout: use layout = modelopt";
    else if (strcmp(name, "int4") == 0 && mixed)
        text = "SGLang reads int4 experts only when int4 is the checkpoint's one format";
    else if (strcmp(name, "nvfp4-w4a16") == 0)
        text = "SGLang before 0.5.23 reads nvfp4-w4a16 in no compressed-tensors checkpoint: use "
               "layout = modelopt for older ones";
    if (warning) *warning = text;
    return TMB_OK;
}

static const char *activations(const tmb_spec *spec, bool measured)
{
    switch (spec->format->act) {
    case TMB_ACT_STATIC:
        return "FP8 by token (experts: by tensor), at run time";
    case TMB_ACT_NVFP4:
        return measured ? "NVFP4 blocks, calibrated" : "NVFP4 blocks, input_global_scale 1.0";
    case TMB_ACT_TOKEN:
        return "FP8 by token, at run time";
    case TMB_ACT_GROUP128:
        return "FP8 by token and 128 columns, at run time";
    case TMB_ACT_MX:
        return tmb_ct_format_of(spec->format) && tmb_ct_format_of(spec->format)->inputs.bits
                   ? "MXFP8 blocks, at run time"
                   : "16 bits";
    case TMB_ACT_NONE:
        break;
    }
    return "16 bits";
}

static bool stores_input(const tmb_spec *spec)
{
    return spec->format->act == TMB_ACT_NVFP4;
}

static const char *suffix_of(const tmb_ct_format *f, tmb_part part)
{
    switch (part) {
    case TMB_PART_CODES:
        return f->codes;
    case TMB_PART_SCALE:
        return f->scale;
    case TMB_PART_GLOBAL:
        return f->global;
    case TMB_PART_INPUT:
        return f->input;
    case TMB_PART_SHAPE:
        return "weight_shape";
    default:
        return NULL;
    }
}

static int spell(const tmb_job_view *job, const tmb_unit *unit, const tmb_spec *spec,
                 tmb_arena *arena, tmb_spelled out[TMB_PARTS])
{
    const tmb_ct_format *f = tmb_ct_format_of(spec->format);
    int n = 0;
    (void)job;
    for (int p = 0; f && p < TMB_PARTS; p++) {
        tmb_part part = (tmb_part)p;
        tmb_geometry g;
        const char *suffix = suffix_of(f, part);
        if (!suffix || !spec->format->part(spec->format, part, unit->out, unit->in, &g)) continue;
        tmb_spelled *s = &out[n++];
        tmb_spell_plain(s, part, &g, tmb_arena_printf(arena, "%s.%s", unit->name, suffix));
        if (!s->name) return 0;
        if (part == TMB_PART_GLOBAL || part == TMB_PART_INPUT) {
            s->rank = 1;
            s->shape[0] = 1;
            s->reciprocal = spec->format->act == TMB_ACT_NVFP4 || strstr(suffix, "global") != NULL;
        } else if (part == TMB_PART_SHAPE) {
            s->rank = 1;
            s->shape[0] = 2;
        }
    }
    return n;
}

static tmb_status extras(const tmb_job_view *job, tmb_arena *arena, tmb_extra **out, size_t *n,
                         tmb_err *err)
{
    return tmb_kv_scales(job, false, 1, arena, out, n, err);
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

const tmb_layout tmb_layout_compressed_tensors = {
    .name = layout_name,
    .summary = "the compressed-tensors library's form, for vLLM and SGLang",
    .accepts = accepts,
    .activations = activations,
    .stores_input = stores_input,
    .spell = spell,
    .extras = extras,
    .notes = notes,
    .config = tmb_ct_config,
};
