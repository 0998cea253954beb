/* values.c - are the numbers numbers: scales finite and positive, no NaN among codes, and of a size
 * that weights can have.
 *
 * Four-bit codes have no bad values and are not read here; everything else is, once, in pieces. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 64 * 1024 }; /* elements; a float buffer of it stays in the second-level cache */

typedef struct tmb_stats {
    uint64_t zeros, nans, negatives;
    float max, last; /* largest finite value; the last one, which of a scalar is the value */
} tmb_stats;

typedef struct tmb_scan {
    uint8_t *raw; /* PIECE * 8 bytes */
    float *x;     /* PIECE floats */
} tmb_scan;

static void count(tmb_stats *s, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float f = x[i];
        s->nans += !isfinite(f);
        s->zeros += f == 0;
        s->negatives += f < 0;
        if (isfinite(f) && f > s->max) s->max = f;
    }
    if (n) s->last = x[n - 1];
}

static bool decodable(tmb_dtype d)
{
    return d == TMB_F32 || d == TMB_F16 || d == TMB_BF16 || d == TMB_F8_E4M3 || d == TMB_F8_E8M0;
}

static tmb_status scan_tensor(const tmb_verifier *v, tmb_scan *scan, const tmb_tensor *t,
                              tmb_dtype as, tmb_stats *s, tmb_err *err)
{
    *s = (tmb_stats){.max = -FLT_MAX, .last = NAN};
    size_t width = tmb_dtype_bits(as) / 8;
    uint64_t n = t->bytes / width;
    for (uint64_t done = 0; done < n;) {
        size_t piece = n - done < PIECE ? (size_t)(n - done) : PIECE;
        TRY(tmb_checkpoint_read(v->ckpt, t, done * width, scan->raw, piece * width, err));
        v->ops->decode(scan->x, scan->raw, as, piece);
        count(s, scan->x, piece);
        done += piece;
    }
    return TMB_OK;
}

static bool is_scale(tmb_vpart p)
{
    switch (p) {
    case TMB_VP_SCALE:
    case TMB_VP_SCALE_2:
    case TMB_VP_GLOBAL:
    case TMB_VP_SCALE_INV:
    case TMB_VP_INPUT:
    case TMB_VP_INPUT_GLOBAL:
    case TMB_VP_E8M0:
    case TMB_VP_SCALES:
    case TMB_VP_K_SCALE:
    case TMB_VP_V_SCALE:
    case TMB_VP_PRE_QUANT:
        return true;
    default:
        return false;
    }
}

/* Remember what later checks need: the largest block scale and the scalars. */
static void keep(tmb_module *m, tmb_vpart p, const tmb_stats *s, bool scalar)
{
    switch (p) {
    case TMB_VP_SCALE:
    case TMB_VP_SCALE_INV:
        m->scale_max = s->max;
        if (scalar && m->meant && m->meant->kind == TMB_VK_FP8) m->global = s->last;
        break;
    case TMB_VP_SCALE_2:
    case TMB_VP_GLOBAL:
        if (scalar) m->global = s->last;
        break;
    case TMB_VP_INPUT:
    case TMB_VP_INPUT_GLOBAL:
        if (scalar) m->input = s->last;
        break;
    default:
        break;
    }
}

static tmb_status scan_module(const tmb_verifier *v, tmb_scan *scan, tmb_module *m, uint64_t *bytes,
                              tmb_err *err)
{
    bool mx = m->meant && (m->meant->kind == TMB_VK_MXFP4 || m->meant->kind == TMB_VK_MXFP8);
    for (int p = 0; p < TMB_VPARTS; p++) {
        const tmb_tensor *t = tmb_module_part(v, m, (tmb_vpart)p);
        if (!t || t->bytes == 0) continue;
        tmb_dtype as = (tmb_dtype)t->dtype;
        bool scale = is_scale((tmb_vpart)p);
        if (scale && mx && as == TMB_U8) as = TMB_F8_E8M0;
        if (!decodable(as)) continue;
        tmb_stats s;
        TRY(scan_tensor(v, scan, t, as, &s, err));
        *bytes += t->bytes;
        if (s.nans) m->bad[p] |= TMB_BAD_NAN;
        if (!scale) continue;
        if (s.zeros && as != TMB_F8_E8M0) m->bad[p] |= TMB_BAD_ZERO;
        if (s.negatives) m->bad[p] |= TMB_BAD_NEGATIVE;
        keep(m, (tmb_vpart)p, &s, t->bytes * 8 == tmb_dtype_bits(as));
    }
    return TMB_OK;
}

static void report_bad(tmb_verifier *v, tmb_module *m, tmb_vpart p)
{
    const char *name = tmb_vpart_name(p);
    if (p == TMB_VP_K_SCALE || p == TMB_VP_V_SCALE) return; /* kv.c speaks of these */
    if (!is_scale(p)) {
        bool codes = p == TMB_VP_WEIGHT && tmb_module_part(v, m, p)->dtype == TMB_F8_E4M3;
        if (codes)
            TMB_FIND_MODULE(v, m, TMB_CHECK_CODE_NAN, TMB_ERROR, 0,
                            "the weight holds the code of NaN (0x7F or 0xFF): every engine "
                            "computes NaN for the "
                            "whole row; quantize this layer again");
        else
            TMB_FIND_MODULE(
                v, m, TMB_CHECK_VALUE_NAN, TMB_ERROR, p,
                "%s holds NaN or infinity: every engine's output becomes NaN; take the tensor from "
                "the source again",
                *name ? name : "the tensor");
        return;
    }
    if (m->bad[p] & TMB_BAD_NAN)
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_SCALE_NAN, TMB_ERROR, p,
            "%s holds NaN or infinity: vLLM and SGLang load it in silence and compute NaN; "
            "quantize this layer again",
            name);
    if (m->bad[p] & TMB_BAD_ZERO)
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_SCALE_ZERO, TMB_ERROR, p,
            "%s holds zero: vLLM and SGLang load it in silence, its weights become 0 or its "
            "activations are divided by 0; quantize this layer again",
            name);
    if (m->bad[p] & TMB_BAD_NEGATIVE)
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_SCALE_NEGATIVE, TMB_ERROR, p,
            "%s holds negative numbers: vLLM and SGLang load it in silence and flip signs; "
            "quantize this layer again",
            name);
}

/* The largest weight that codes and scales can mean. */
static double largest_weight(const tmb_module *m)
{
    switch (m->meant->kind) {
    case TMB_VK_NVFP4:
        return 6.0 * m->scale_max * (m->meant->layout == TMB_VL_CT ? 1.0 / m->global : m->global);
    case TMB_VK_FP8:
    case TMB_VK_FP8_CHANNEL:
    case TMB_VK_FP8_BLOCK:
        return 448.0 * m->scale_max;
    case TMB_VK_INT4:
        return 8.0 * m->scale_max;
    default:
        return NAN;
    }
}

/* The largest activation a static input scale can mean. */
static double largest_input(const tmb_module *m)
{
    if (m->meant->act == TMB_ACT_STATIC) return 448.0 * m->input;
    if (m->meant->act != TMB_ACT_NVFP4) return NAN;
    return m->meant->layout == TMB_VL_CT ? 2688.0 / m->input : 2688.0 * m->input;
}

static void check_size(tmb_verifier *v, tmb_module *m)
{
    double weight = largest_weight(m), input = largest_input(m);
    bool ct = m->meant->layout == TMB_VL_CT;
    tmb_ran(v, TMB_CHECK_SCALE_INVERTED);
    if (weight > 1e4 && isfinite(weight))
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_SCALE_INVERTED, TMB_ERROR, 0,
            "its scales decode to weights up to %.3g: the %s was written the wrong way round "
            "(%s), which vLLM and SGLang load in silence; store its reciprocal",
            weight, ct ? "global scale" : "weight_scale",
            ct ? "it is a divisor here, 2688 / amax" : "it is a factor here, amax / 2688");
    if (weight < 1e-7 && weight >= 0)
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_SCALE_TINY, TMB_WARNING, 0,
            "its scales decode to weights of at most %.3g: the layer does nothing, or its global "
            "scale was written the wrong way round; compare it with the source",
            weight);
    if (input > 3e5 && isfinite(input))
        TMB_FIND_MODULE(
            v, m, TMB_CHECK_SCALE_INVERTED, TMB_ERROR, 1,
            "its input scale stands for activations up to %.3g: it was written the wrong way round "
            "(%s), which vLLM and SGLang load in silence; store its reciprocal",
            input, ct ? "a divisor here, 2688 / amax" : "a factor here, amax / 2688");
}

static void scan_some(void *arg)
{
    tmb_loop *loop = arg;
    tmb_scan scan = {.raw = malloc(PIECE * sizeof(double)), .x = malloc(PIECE * sizeof(float))};
    tmb_err err;
    tmb_status status = TMB_OK;
    if (!scan.raw || !scan.x) status = tmb_fail_memory(&err, PIECE * 12, "reading tensors");
    for (uint32_t i; !status && tmb_next(loop, &i);) {
        tmb_module *m = &loop->v->modules[i];
        uint64_t bytes = 0;
        status = scan_module(loop->v, &scan, m, &bytes, &err);
        tmb_tick(loop->v, bytes, m->name);
    }
    if (status) tmb_loop_fail(loop, &err);
    free(scan.raw);
    free(scan.x);
}

tmb_status tmb_check_values(tmb_verifier *v, tmb_err *err)
{
    tmb_loop loop = {.v = v, .n = v->n_modules};
    TRY(tmb_loop_run(&loop, scan_some, err));
    tmb_ran(v, TMB_CHECK_VALUE_NAN);
    for (uint32_t i = 0; i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        if (m->meant) {
            tmb_ran(v, TMB_CHECK_SCALE_NAN);
            tmb_ran(v, TMB_CHECK_SCALE_ZERO);
            tmb_ran(v, TMB_CHECK_SCALE_NEGATIVE);
            tmb_ran(v, TMB_CHECK_CODE_NAN);
        }
        for (int p = 0; p < TMB_VPARTS; p++)
            if (m->bad[p]) report_bad(v, m, (tmb_vpart)p);
        if (m->meant) check_size(v, m);
    }
    return TMB_OK;
}
