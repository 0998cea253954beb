/* plant.h - a checkpoint changed in one known place, whatever its architecture: Linears are read
 * and written back through the model's inventory, in the type they are stored in. */
#ifndef PLANT_H
#define PLANT_H

#include "kernels/cpu/cpu.h"
#include "moe/format/formats.h"
#include "moe/infer/forward.h"
#include "moe/model/weight.h"
#include "tests/ckpt_edit.h"

#include <math.h>

typedef struct plant {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_reader *reader;
    edit *e; /* what will be written */
} plant;

static inline bool plant_open(plant *p, const char *source, tmb_err *err)
{
    *p = (plant){.e = calloc(1, sizeof *p->e)};
    return p->e && !tmb_checkpoint_open(&p->ckpt, source, err) &&
           !tmb_model_open(&p->model, p->ckpt, err) &&
           !tmb_reader_open(&p->reader, p->model, tmb_cpu_ops(), err) && edit_load(p->e, source);
}

static inline void plant_close(plant *p)
{
    if (p->reader) tmb_reader_close(p->reader);
    if (p->model) tmb_model_close(p->model);
    if (p->ckpt) tmb_checkpoint_close(p->ckpt);
    if (p->e) edit_free(p->e);
    free(p->e);
}

/* The weight [out, in] as the source has it, malloc'ed. */
static inline float *plant_read(const plant *p, const tmb_unit *u, tmb_err *err)
{
    float *x = malloc(u->out * u->in * sizeof *x);
    for (uint64_t r = 0; x && r < u->out; r += TMB_TILE_ROWS) {
        size_t rows = u->out - r < TMB_TILE_ROWS ? (size_t)(u->out - r) : TMB_TILE_ROWS;
        if (tmb_reader_rows(p->reader, u, r, rows, x + r * u->in, err)) {
            free(x);
            return NULL;
        }
    }
    return x;
}

static inline bool plant_store(edit_tensor *t, uint64_t i, float value)
{
    uint16_t b;
    if (t->dtype == TMB_F32) {
        memcpy(t->data + 4 * i, &value, 4);
    } else if (t->dtype == TMB_BF16) {
        tmb_cpu_ops()->to_bf16(&b, &value, 1);
        memcpy(t->data + 2 * i, &b, 2);
    } else {
        return false; /* only plain checkpoints are changed */
    }
    return true;
}

static inline float plant_value(const edit_tensor *t, uint64_t i)
{
    float value = 0;
    if (t->dtype == TMB_F32) memcpy(&value, t->data + 4 * i, 4);
    if (t->dtype == TMB_BF16) {
        uint32_t bits = (uint32_t)(t->data[2 * i] | t->data[2 * i + 1] << 8) << 16;
        memcpy(&value, &bits, 4);
    }
    return value;
}

static inline edit_tensor *plant_tensor(const plant *p, const tmb_unit *u)
{
    return edit_find(p->e, p->ckpt->tensors[u->stored.part[TMB_PART_CODES]].name);
}

/* x [out, in] in the place where the unit lies, alone or in a stack. */
static inline bool plant_write(plant *p, const tmb_unit *u, const float *x)
{
    edit_tensor *t = plant_tensor(p, u);
    const tmb_stored *s = &u->stored;
    uint64_t step = s->step ? s->step : 1, slab = t->shape[t->rank - 2] * t->shape[t->rank - 1];
    uint64_t width = t->shape[t->rank - 1], base = s->n_experts ? s->index * slab : 0;
    for (uint64_t r = 0; r < u->out; r++) {
        uint64_t row = s->first + r * step;
        for (uint64_t c = 0; c < u->in; c++)
            if (!plant_store(t, base + (s->transposed ? c * width + row : row * width + c),
                             x[r * u->in + c]))
                return false;
    }
    return true;
}

/* x [out, in] as the format gives it back. */
static inline bool plant_round(float *x, uint64_t out, uint64_t in, const char *name)
{
    const tmb_format *f = tmb_format_find(name);
    const tmb_ops *ops = tmb_cpu_ops();
    tmb_geometry codes, scales;
    if (!f || in % f->col_multiple || !f->part(f, TMB_PART_CODES, out, in, &codes)) return false;
    bool scaled = f->part(f, TMB_PART_SCALE, out, in, &scales);
    uint8_t *q = malloc(codes.bytes), *s = malloc(scaled ? scales.bytes : 1);
    float *work = malloc(tmb_format_work(in) * sizeof *work);
    float global = f->global_scale ? f->global_scale(ops->amax(x, out * in)) : 1;
    for (uint64_t r = 0; q && s && work && r < out; r += TMB_TILE_ROWS) {
        size_t rows = out - r < TMB_TILE_ROWS ? (size_t)(out - r) : TMB_TILE_ROWS;
        uint8_t *c = q + tmb_format_row_offset(&codes, out, r);
        uint8_t *b = scaled ? s + tmb_format_row_offset(&scales, out, r) : s;
        f->encode(f, ops, TMB_SCALE_MAX, x + r * in, rows, in, global, c, b, work);
        f->decode(f, ops, x + r * in, rows, in, c, b, global, work);
    }
    free(q);
    free(s);
    free(work);
    return true;
}

static inline const tmb_unit *plant_router(const plant *p, int layer)
{
    for (uint32_t i = 0; i < p->model->n_units; i++) {
        const tmb_unit *u = &p->model->units[i];
        if (u->role == TMB_ROLE_ROUTER && u->linear && u->layer == layer) return u;
    }
    return NULL;
}

static inline bool plant_ends(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n > k && name[n - k - 1] == '.' && strcmp(name + n - k, end) == 0;
}

#endif
