/* stored.c - from what the inventory says about a Linear to bytes. */
#include "config.h"
#include "moe/model/stored.h"

#include <string.h>

enum { TILE = 128 };

/* The slab of this unit in one of its tensors, as [rows, cols] of what a row has. */
static tmb_matrix matrix_of(const tmb_model *model, const tmb_unit *unit, tmb_part part,
                            uint64_t cols)
{
    const tmb_stored *s = &unit->stored;
    const tmb_tensor *t = &model->ckpt->tensors[s->part[part]];
    uint64_t slab = s->n_experts ? t->bytes / s->n_experts : t->bytes;
    tmb_matrix m = {.tensor = t, .cols = cols, .size = tmb_dtype_bits((tmb_dtype)t->dtype) / 8};
    m.begin = s->n_experts ? slab * s->index : 0;
    m.rows = slab / m.size / cols;
    m.turned = s->transposed && m.rows > 1 && cols > 1;
    return m;
}

tmb_stored_view tmb_stored_view_of(const tmb_model *model, const tmb_unit *unit)
{
    const tmb_stored *s = &unit->stored;
    const tmb_tensor *codes = &model->ckpt->tensors[s->part[TMB_PART_CODES]];
    const char *format = s->format ? s->format->name : "";
    tmb_stored_view v = {.element = TMB_ELEMENT_E4M3, .width = unit->in};
    unsigned pack = 1;

    if (!s->format) {
        v.element = TMB_ELEMENT_PLAIN;
    } else if (strcmp(format, "int4") == 0) {
        v.element = TMB_ELEMENT_INT4;
        v.width = s->group;
        pack = codes->dtype == TMB_I32 ? 8 : 2;
    } else if (strcmp(format, "mxfp8") == 0) {
        v.width = 32;
    } else if (strncmp(format, "fp8", 3) != 0) { /* nvfp4, nvfp4-w4a16, mxfp4 */
        v.element = TMB_ELEMENT_E2M1;
        v.width = s->group ? s->group : *format == 'm' ? 32 : 16;
        pack = 2;
    } else if (strcmp(format, "fp8-block") == 0) {
        v.scaling = TMB_SCALING_TILE;
        v.width = TILE;
    } else {
        v.scaling = strcmp(format, "fp8") == 0 ? TMB_SCALING_TENSOR : TMB_SCALING_ROW;
    }
    if (s->format && v.scaling == TMB_SCALING_NONE) v.scaling = TMB_SCALING_GROUP;

    v.scales = v.scaling == TMB_SCALING_NONE ? 0 : tmb_ceil_div(unit->in, v.width);
    v.codes = matrix_of(model, unit, TMB_PART_CODES, unit->in / pack);
    if (v.scaling > TMB_SCALING_TENSOR)
        v.scale = matrix_of(model, unit, TMB_PART_SCALE, v.scales);
    return v;
}
