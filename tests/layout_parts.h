/* layout_parts.h - for tests: which tensors a quantized Linear becomes, as the two libraries'
 * documents and exports have it (ModelOpt 0.47 unified export; compressed-tensors 0.17 schema). */
#ifndef TMB_TESTS_LAYOUT_PARTS_H
#define TMB_TESTS_LAYOUT_PARTS_H

#include "moe/layout/layout.h"

#include <string.h>

typedef struct expected_part {
    const char *layout, *format, *suffix;
    tmb_dtype dtype;
    const char *shape; /* a letter a dimension, see dimension() */
    bool reciprocal;
} expected_part;

#define MO "modelopt"
#define CT "compressed-tensors"

static const expected_part expected_parts[] = {
    {MO, "nvfp4", "weight", TMB_U8, "oh", false},
    {MO, "nvfp4", "weight_scale", TMB_F8_E4M3, "of", false},
    {MO, "nvfp4", "weight_scale_2", TMB_F32, "", false},
    {MO, "nvfp4", "input_scale", TMB_F32, "", false},
    {MO, "nvfp4-w4a16", "weight", TMB_U8, "oh", false},
    {MO, "nvfp4-w4a16", "weight_scale", TMB_F8_E4M3, "of", false},
    {MO, "nvfp4-w4a16", "weight_scale_2", TMB_F32, "", false},
    {MO, "fp8", "weight", TMB_F8_E4M3, "oi", false},
    {MO, "fp8", "weight_scale", TMB_F32, "", false},
    {MO, "fp8", "input_scale", TMB_F32, "", false},
    {MO, "fp8-channel", "weight", TMB_F8_E4M3, "oi", false},
    {MO, "fp8-channel", "weight_scale", TMB_F32, "o", false},
    {MO, "fp8-block", "weight", TMB_F8_E4M3, "oi", false},
    {MO, "fp8-block", "weight_scale", TMB_F32, "p1g1", false},
    {MO, "mxfp8", "weight", TMB_F8_E4M3, "oi", false},
    {MO, "mxfp8", "weight_scale", TMB_U8, "ot", false},
    {CT, "nvfp4", "weight_packed", TMB_U8, "oh", false},
    {CT, "nvfp4", "weight_scale", TMB_F8_E4M3, "of", false},
    {CT, "nvfp4", "weight_global_scale", TMB_F32, "1", true},
    {CT, "nvfp4", "input_global_scale", TMB_F32, "1", true},
    {CT, "nvfp4-w4a16", "weight_packed", TMB_U8, "oh", false},
    {CT, "nvfp4-w4a16", "weight_scale", TMB_F8_E4M3, "of", false},
    {CT, "nvfp4-w4a16", "weight_global_scale", TMB_F32, "1", true},
    {CT, "fp8", "weight", TMB_F8_E4M3, "oi", false},
    {CT, "fp8", "weight_scale", TMB_F32, "1", false},
    {CT, "fp8-channel", "weight", TMB_F8_E4M3, "oi", false},
    {CT, "fp8-channel", "weight_scale", TMB_F32, "o1", false},
    {CT, "fp8-block", "weight", TMB_F8_E4M3, "oi", false},
    {CT, "fp8-block", "weight_scale", TMB_F32, "pg", false},
    {CT, "mxfp4", "weight_packed", TMB_U8, "oh", false},
    {CT, "mxfp4", "weight_scale", TMB_U8, "ot", false},
    {CT, "mxfp8", "weight", TMB_F8_E4M3, "oi", false},
    {CT, "mxfp8", "weight_scale", TMB_U8, "ot", false},
    {CT, "int4", "weight_packed", TMB_I32, "oe", false},
    {CT, "int4", "weight_scale", TMB_F32, "og", false},
    {CT, "int4", "weight_shape", TMB_I64, "2", false},
};
enum { EXPECTED_PARTS = sizeof expected_parts / sizeof *expected_parts };

static inline uint64_t dimension(char letter, uint64_t out, uint64_t in)
{
    switch (letter) {
    case 'o':
        return out;
    case 'p':
        return (out + 127) / 128;
    case 'i':
        return in;
    case 'h':
        return in / 2;
    case 'e':
        return (in + 7) / 8;
    case 'f':
        return in / 16;
    case 't':
        return in / 32;
    case 'g':
        return (in + 127) / 128;
    default:
        return (uint64_t)(letter - '0');
    }
}

static inline bool same_part(const expected_part *e, const tmb_unit *unit, const tmb_spelled *s)
{
    size_t n = strlen(unit->name);
    if (strncmp(s->name, unit->name, n) != 0 || s->name[n] != '.') return false;
    if (strcmp(s->name + n + 1, e->suffix) != 0) return false;
    if (s->dtype != e->dtype || s->rank != (int)strlen(e->shape)) return false;
    for (int d = 0; d < s->rank; d++)
        if (s->shape[d] != dimension(e->shape[d], unit->out, unit->in)) return false;
    return s->reciprocal == e->reciprocal;
}

/* What is wrong with the parts of a unit that is a tensor of its own; NULL. */
static inline const char *parts_fault(const tmb_layout *layout, const char *format,
                                      const tmb_unit *unit, const tmb_spelled *spelled, int n)
{
    int expected = 0;
    for (int i = 0; i < EXPECTED_PARTS; i++) {
        const expected_part *e = &expected_parts[i];
        bool found = false;
        if (strcmp(e->layout, layout->name) != 0 || strcmp(e->format, format) != 0) continue;
        expected++;
        for (int s = 0; s < n && !found; s++)
            found = same_part(e, unit, &spelled[s]);
        if (!found) return e->suffix;
    }
    return expected == n ? NULL : "another number of parts";
}

#endif
