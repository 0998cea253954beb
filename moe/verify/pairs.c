/* pairs.c - Linears that engines run as one must agree: one format, one global scale, one input
 * scale.
 *
 * vLLM keeps one number for a fused layer: gate's for gate and up of an expert, the maximum of all
 * for a fused Linear.  compressed-tensors' numbers are divisors, so there the maximum is the
 * smallest amax, and the others overflow. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MEMBERS = 6 };

typedef struct tmb_pair {
    tmb_module *member[MEMBERS];
    int n;
    bool gate_up;
} tmb_pair;

static void check_format(tmb_verifier *v, const tmb_pair *p)
{
    tmb_module *a = p->member[0];
    if (a->expert >= 0) return; /* structure.c compares whole layers of experts */
    if (v->config.layout == TMB_VL_NATIVE) return; /* engines split these as they were published */
    tmb_ran(v, TMB_CHECK_FUSED_FORMATS);
    for (int i = 1; i < p->n; i++) {
        tmb_module *b = p->member[i];
        if (tmb_same_scheme(a->meant, b->meant)) continue;
        TMB_FIND_MODULE(
            v, b, TMB_CHECK_FUSED_FORMATS, TMB_ERROR, 0,
            "%s and its sibling %s have different formats (%s, %s), but engines run them as one "
            "layer: vLLM and SGLang refuse that; give them the same format",
            b->name, a->name, b->meant ? b->meant->name : "unquantized",
            a->meant ? a->meant->name : "unquantized");
        return;
    }
}

static bool differ(float a, float b)
{
    return isfinite(a) && isfinite(b) && a != b;
}

static void check_global(tmb_verifier *v, const tmb_pair *p, tmb_module *a, tmb_module *b)
{
    bool expert = a->expert >= 0;
    if (a->meant->kind == TMB_VK_FP8) {
        tmb_ran(v, TMB_CHECK_FUSED_SCALE);
        /* an expert's halves are brought to one scale by every engine, and ModelOpt writes two */
        if (!expert && differ(a->global, b->global))
            TMB_FIND_MODULE(v, b, TMB_CHECK_FUSED_SCALE, TMB_WARNING, 0,
                            "weight_scale is %.6g, its fused sibling has %.6g: vLLM requantizes "
                            "both to the larger "
                            "one at load, which costs accuracy; give the fused layer one scale",
                            b->global, a->global);
        return;
    }
    if (a->meant->kind != TMB_VK_NVFP4) return;
    tmb_check check = p->gate_up ? TMB_CHECK_GATE_UP_GLOBAL : TMB_CHECK_FUSED_GLOBAL;
    tmb_ran(v, check);
    if (!differ(a->global, b->global)) return;
    TMB_FIND_MODULE(
        v, b, check, TMB_ERROR, expert,
        "its global scale is %.6g, that of %s is %.6g: engines keep one for the pair (vLLM gate's, "
        "or "
        "the maximum of a fused layer) and decode the other by the wrong factor, in silence; "
        "quantize them with one global scale",
        b->global, a->name, a->global);
}

static void check_input(tmb_verifier *v, const tmb_pair *p, tmb_module *a, tmb_module *b)
{
    bool expert = a->expert >= 0, ct = a->meant->layout == TMB_VL_CT;
    bool nvfp4 = a->meant->act == TMB_ACT_NVFP4;
    tmb_check check = p->gate_up && expert ? TMB_CHECK_GATE_UP_INPUT : TMB_CHECK_FUSED_INPUT;
    tmb_ran(v, check);
    if (!differ(a->input, b->input)) return;
    bool hard = nvfp4 ? expert || ct : expert && ct;
    TMB_FIND_MODULE(v, b, check, hard ? TMB_ERROR : TMB_WARNING, expert * 2u + nvfp4,
                    "its input scale is %.6g, that of %s is %.6g: both read the same input, and "
                    "engines keep one "
                    "number (%s); give the pair one input scale",
                    b->input, a->name, a->input,
                    ct ? "for compressed-tensors the one that clips the most, or they refuse it"
                       : "the larger");
}

static void check_pair(tmb_verifier *v, const tmb_pair *p)
{
    if (p->n < 2) return;
    check_format(v, p);
    tmb_module *a = p->member[0];
    for (int i = 1; i < p->n; i++) {
        tmb_module *b = p->member[i];
        if (!a->meant || !tmb_same_scheme(a->meant, b->meant)) continue;
        check_global(v, p, a, b);
        check_input(v, p, a, b);
    }
}

/* The common groups by name, for modules that the model could not make units of. */
static void pair_by_name(tmb_verifier *v, tmb_module *m)
{
    static const char *const groups[][MEMBERS] = {{"gate_proj", "up_proj"},
                                                  {"w1", "w3"},
                                                  {"q_proj", "k_proj", "v_proj"},
                                                  {"q_a_proj", "kv_a_proj_with_mqa"}};
    const char *leaf = strrchr(m->name, '.');
    if (!leaf) return;
    leaf++;
    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
        if (strcmp(groups[g][0], leaf) != 0) continue;
        tmb_pair p = {.member = {m}, .n = 1, .gate_up = g < 2};
        for (int i = 1; i < MEMBERS && groups[g][i]; i++) {
            char name[1024];
            snprintf(name, sizeof name, "%.*s%s", (int)(leaf - m->name), m->name, groups[g][i]);
            tmb_module *other = tmb_module_find(v, name);
            if (other && other->linear) p.member[p.n++] = other;
        }
        check_pair(v, &p);
    }
}

void tmb_check_pairs(tmb_verifier *v)
{
    const tmb_model *model = v->model;
    for (uint32_t i = 0; i < model->n_fuses; i++) {
        const tmb_fuse *f = &model->fuses[i];
        tmb_pair p = {.n = 0};
        for (uint32_t k = 0; k < f->n_units && p.n < MEMBERS; k++) {
            tmb_module *m = tmb_module_find(v, model->units[f->units[k]].name);
            if (!m || !m->linear) continue;
            p.gate_up |= m->proj == TMB_PROJ_GATE;
            p.member[p.n++] = m;
        }
        check_pair(v, &p);
    }
    for (uint32_t i = 0; i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        if (m->linear && !m->stacked && (!m->unit || m->unit->fuse == TMB_NONE)) pair_by_name(v, m);
    }
}
