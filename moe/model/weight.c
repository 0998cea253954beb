/* weight.c - rows of a stored weight as float32.
 *
 * Two steps: fetch brings the raw codes and scales of a tile into row order, whatever the stack
 * looks like; decode multiplies them out with the operation table. */
#include "config.h"
#include "moe/model/weight.h"
#include "moe/model/stored.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct buffer {
    uint8_t *bytes;
    size_t room;
} buffer;

/* A slab that is kept: which tensor, which expert. */
typedef struct slab {
    buffer data;
    const tmb_tensor *tensor;
    uint64_t begin;
} slab;

struct tmb_reader {
    const tmb_model *model;
    const tmb_ops *ops;
    const tmb_unit *unit; /* the one that view and global are of */
    tmb_stored_view view;
    float global;
    bool divide; /* compressed-tensors' global scale is a divisor */
    slab codes, scales;
    buffer code_tile, scale_tile; /* raw, in row order */
    const uint8_t *code_rows;     /* the tile's: in code_tile, or where they were staged */
    const tmb_staged *staged;     /* what is in memory already; NULL: nothing */
    buffer loose;                 /* scales as stored, before they are spread over rows */
    buffer multipliers;           /* float32, [rows, view.scales] */
};

tmb_status tmb_reader_open(tmb_reader **out, const tmb_model *model, const tmb_ops *ops,
                           tmb_err *err)
{
    tmb_reader *r = calloc(1, sizeof *r);
    if (!r) return tmb_fail_memory(err, sizeof *r, "a reader");
    r->model = model;
    r->ops = ops;
    *out = r;
    return TMB_OK;
}

void tmb_reader_close(tmb_reader *r)
{
    if (!r) return;
    buffer *all[] = {&r->codes.data, &r->scales.data, &r->code_tile,
                     &r->scale_tile, &r->loose,       &r->multipliers};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->bytes);
    free(r);
}

static tmb_status reserve(buffer *b, uint64_t bytes, tmb_err *err)
{
    if (bytes <= b->room) return TMB_OK;
    uint8_t *grown = bytes <= SIZE_MAX ? malloc((size_t)bytes) : NULL;
    if (!grown) return tmb_fail_memory(err, bytes, "a tile of weights");
    free(b->bytes);
    b->bytes = grown;
    b->room = (size_t)bytes;
    return TMB_OK;
}

void tmb_reader_use(tmb_reader *r, const tmb_staged *staged)
{
    r->staged = staged;
}

/* to [bytes] = bytes of the tensor from offset, from memory where they are. */
static tmb_status get(const tmb_reader *r, const tmb_tensor *t, uint64_t offset, void *to,
                      size_t bytes, tmb_err *err)
{
    const tmb_checkpoint *ckpt = r->model->ckpt;
    const uint8_t *from = tmb_staged_find(r->staged, ckpt, t, offset, bytes);
    if (!from) return tmb_checkpoint_read(ckpt, t, offset, to, bytes, err);
    memcpy(to, from, bytes);
    return TMB_OK;
}

static const char *shard_of(const tmb_reader *r, const tmb_tensor *t)
{
    return r->model->ckpt->shards[t->shard].name;
}

/* One float of a part that has one number, or one for each expert. */
static tmb_status read_number(tmb_reader *r, const tmb_unit *unit, tmb_part part, float *out,
                              tmb_err *err)
{
    const tmb_tensor *t = &r->model->ckpt->tensors[unit->stored.part[part]];
    size_t size = tmb_dtype_bits((tmb_dtype)t->dtype) / 8;
    uint64_t at = t->bytes > size ? unit->stored.index * size : 0;
    uint8_t raw[8];
    TRY(get(r, t, at, raw, size, err));
    r->ops->decode(out, raw, (tmb_dtype)t->dtype, 1);
    return TMB_OK;
}

/* int4: the stored shape must be the one that was taken from the codes. */
static tmb_status check_shape(const tmb_reader *r, const tmb_unit *unit, tmb_err *err)
{
    const tmb_tensor *t = &r->model->ckpt->tensors[unit->stored.part[TMB_PART_SHAPE]];
    int64_t shape[2];
    int32_t small[2];
    bool wide = t->dtype == TMB_I64;
    TRY(get(r, t, 0, wide ? (void *)shape : (void *)small, wide ? sizeof shape : sizeof small,
            err));
    for (int i = 0; i < 2 && !wide; i++)
        shape[i] = small[i];
    if (shape[0] == (int64_t)unit->out && shape[1] == (int64_t)unit->in) return TMB_OK;
    return tmb_fail(err, TMB_EDATA,
                    "%s: tensor \"%s\" says [%" PRId64 ", %" PRId64 "], the packed codes hold "
                    "[%" PRIu64 ", %" PRIu64 "] four-bit values; other widths are not read",
                    shard_of(r, t), t->name, shape[0], shape[1], unit->out, unit->in);
}

static tmb_status turn_to(tmb_reader *r, const tmb_unit *unit, tmb_err *err)
{
    if (r->unit == unit) return TMB_OK;
    r->unit = NULL;
    r->view = tmb_stored_view_of(r->model, unit);
    r->global = 1.0f;
    r->divide = unit->stored.spelling == TMB_SPELL_CT && r->view.element == TMB_ELEMENT_E2M1;
    if (unit->stored.part[TMB_PART_GLOBAL] != TMB_NO_TENSOR)
        TRY(read_number(r, unit, TMB_PART_GLOBAL, &r->global, err));
    if (unit->stored.part[TMB_PART_SHAPE] != TMB_NO_TENSOR) TRY(check_shape(r, unit, err));
    r->unit = unit;
    return TMB_OK;
}

/* to [rows, cols] from [cols, stride]: elements first, first+step, … of each stored line.  Sixteen
 * lines at a time, so that a cache line of the result is written whole. */
static void turn(uint8_t *to, const uint8_t *from, const tmb_matrix *m, uint64_t first,
                 uint64_t step, size_t rows)
{
    size_t size = m->size, cols = (size_t)m->cols;
    for (size_t c = 0; c < cols; c += 16) {
        size_t n = cols - c < 16 ? cols - c : 16;
        for (size_t j = 0; j < rows; j++) {
            const uint8_t *at = from + (c * m->rows + first + j * step) * size;
            uint8_t *line = to + (j * cols + c) * size;
            for (size_t k = 0; k < n; k++)
                memcpy(line + k * size, at + k * m->rows * size, size);
        }
    }
}

/* The slab of a turned matrix: staged, or kept from the last time, or read. */
static tmb_status fetch_slab(tmb_reader *r, const tmb_matrix *m, slab *kept, const uint8_t **out,
                             tmb_err *err)
{
    const tmb_checkpoint *ckpt = r->model->ckpt;
    uint64_t bytes = m->rows * m->cols * m->size;
    *out = tmb_staged_find(r->staged, ckpt, m->tensor, m->begin, bytes);
    if (*out) return TMB_OK;
    if (kept->tensor != m->tensor || kept->begin != m->begin) {
        kept->tensor = NULL;
        TRY(reserve(&kept->data, bytes, err));
        TRY(tmb_checkpoint_read(ckpt, m->tensor, m->begin, kept->data.bytes, (size_t)bytes, err));
        kept->tensor = m->tensor;
        kept->begin = m->begin;
    }
    *out = kept->data.bytes;
    return TMB_OK;
}

/* *out = rows first, first+step, … of matrix m, in order: in `tile`, or where they lie in memory. */
static tmb_status fetch(tmb_reader *r, const tmb_matrix *m, slab *kept, buffer *tile,
                        uint64_t first, uint64_t step, size_t rows, const uint8_t **out,
                        tmb_err *err)
{
    const tmb_checkpoint *ckpt = r->model->ckpt;
    uint64_t line = m->cols * m->size, span = (rows - 1) * step + 1, at = m->begin + first * line;
    const uint8_t *from = NULL;
    if (m->turned) {
        TRY(reserve(tile, rows * line, err));
        TRY(fetch_slab(r, m, kept, &from, err));
        turn(tile->bytes, from, m, first, step, rows);
        *out = tile->bytes;
        return TMB_OK;
    }
    from = tmb_staged_find(r->staged, ckpt, m->tensor, at, span * line);
    if (from && step == 1 && (uintptr_t)from % m->size == 0) {
        *out = from;
        return TMB_OK;
    }
    TRY(reserve(tile, (from ? rows : span) * line, err));
    if (!from) {
        TRY(tmb_checkpoint_read(ckpt, m->tensor, at, tile->bytes, (size_t)(span * line), err));
        from = tile->bytes;
    }
    for (size_t j = 0; j < rows && (step > 1 || from != tile->bytes); j++)
        memmove(tile->bytes + j * line, from + j * step * line, (size_t)line);
    *out = tile->bytes;
    return TMB_OK;
}

/* A tile of 128 rows touches one row of tile scales, or two or three when it starts inside one
 * (the up half of a stack) or takes every second row. */
static tmb_status fetch_tile_scales(tmb_reader *r, uint64_t first, uint64_t step, size_t rows,
                                    float *to, tmb_err *err)
{
    const tmb_matrix *m = &r->view.scale;
    uint64_t top = first / TMB_TILE_ROWS, last = (first + (rows - 1) * step) / TMB_TILE_ROWS;
    size_t n = (size_t)(last - top + 1), cols = (size_t)m->cols;
    const uint8_t *stored;
    TRY(fetch(r, m, &r->scales, &r->scale_tile, top, 1, n, &stored, err));
    TRY(reserve(&r->loose, n * cols * sizeof *to, err));
    float *loose = (float *)(void *)r->loose.bytes;
    tmb_dtype dtype = (tmb_dtype)m->tensor->dtype;
    r->ops->decode(loose, stored, dtype == TMB_U8 ? TMB_F8_E8M0 : dtype, n * cols);
    for (size_t j = 0; j < rows; j++)
        memcpy(to + j * cols, loose + ((first + j * step) / TMB_TILE_ROWS - top) * cols,
               cols * sizeof *to);
    return TMB_OK;
}

/* The multipliers of a tile, [rows, view.scales]. */
static tmb_status fetch_scales(tmb_reader *r, uint64_t first, uint64_t step, size_t rows,
                               tmb_err *err)
{
    const tmb_stored_view *v = &r->view;
    size_t n = rows * (size_t)v->scales;
    TRY(reserve(&r->multipliers, n * sizeof(float), err));
    float *to = (float *)(void *)r->multipliers.bytes;
    if (v->scaling == TMB_SCALING_TENSOR) {
        for (size_t i = 0; i < n; i++)
            to[i] = r->global;
        return TMB_OK;
    }
    if (v->scaling == TMB_SCALING_TILE) return fetch_tile_scales(r, first, step, rows, to, err);
    const uint8_t *stored;
    TRY(fetch(r, &v->scale, &r->scales, &r->scale_tile, first, step, rows, &stored, err));
    tmb_dtype dtype = (tmb_dtype)v->scale.tensor->dtype;
    r->ops->decode(to, stored, dtype == TMB_U8 ? TMB_F8_E8M0 : dtype, n);
    if (r->unit->stored.part[TMB_PART_GLOBAL] == TMB_NO_TENSOR) return TMB_OK;
    for (size_t i = 0; i < n; i++)
        to[i] = r->divide ? to[i] / r->global : to[i] * r->global;
    return TMB_OK;
}

static void decode(const tmb_reader *r, const tmb_unit *unit, size_t rows, float *y)
{
    const tmb_stored_view *v = &r->view;
    const uint8_t *codes = r->code_rows;
    const float *s = (const float *)(const void *)r->multipliers.bytes;
    size_t in = (size_t)unit->in, width = (size_t)v->width, n = rows * (size_t)v->scales;
    switch (v->element) {
    case TMB_ELEMENT_PLAIN:
        r->ops->decode(y, codes, (tmb_dtype)v->codes.tensor->dtype, rows * in);
        return;
    case TMB_ELEMENT_E2M1: r->ops->decode_e2m1(y, codes, s, n, width); return;
    case TMB_ELEMENT_INT4: r->ops->decode_int4(y, codes, s, n, width); return;
    case TMB_ELEMENT_E4M3: break;
    }
    if (in % width == 0) {
        r->ops->decode_e4m3(y, codes, s, n, width);
        return;
    }
    size_t whole = in / width;
    for (size_t j = 0; j < rows; j++, s += v->scales, codes += in, y += in) {
        r->ops->decode_e4m3(y, codes, s, whole, width);
        r->ops->decode_e4m3(y + whole * width, codes + whole * width, s + whole, 1, in % width);
    }
}

static tmb_status read_tile(tmb_reader *r, const tmb_unit *unit, uint64_t row, size_t rows,
                            float *y, tmb_err *err)
{
    if (!unit->linear || unit->broken || !rows || rows > TMB_TILE_ROWS || row > unit->out ||
        rows > unit->out - row)
        return tmb_fail(err, TMB_EINTERNAL, "%s: rows %" PRIu64 "+%zu cannot be read", unit->name,
                        row, rows);
    TRY(turn_to(r, unit, err));
    uint64_t step = unit->stored.step, first = unit->stored.first + row * step;
    TRY(fetch(r, &r->view.codes, &r->codes, &r->code_tile, first, step, rows, &r->code_rows, err));
    if (r->view.scaling) TRY(fetch_scales(r, first, step, rows, err));
    decode(r, unit, rows, y);
    return TMB_OK;
}

bool tmb_reader_plain(const tmb_reader *r, const tmb_unit *unit, uint64_t row, uint64_t rows,
                      const void **data, tmb_dtype *dtype, uint64_t *stride)
{
    if (!unit->linear || unit->broken || !rows || row > unit->out || rows > unit->out - row)
        return false;
    const tmb_stored_view v = tmb_stored_view_of(r->model, unit);
    const tmb_matrix *m = &v.codes;
    *dtype = (tmb_dtype)m->tensor->dtype;
    if (v.element != TMB_ELEMENT_PLAIN || m->turned || (*dtype != TMB_BF16 && *dtype != TMB_F32))
        return false;
    uint64_t line = m->cols * m->size, step = unit->stored.step;
    *stride = step * line;
    *data = tmb_staged_find(r->staged, r->model->ckpt, m->tensor,
                            m->begin + (unit->stored.first + row * step) * line,
                            ((rows - 1) * step + 1) * line);
    return *data != NULL;
}

/* *amax of a tile that was read, which must be finite. */
static tmb_status look_at(const tmb_reader *r, const tmb_unit *unit, uint64_t row, size_t rows,
                          const float *y, float *amax, tmb_err *err)
{
    *amax = r->ops->amax(y, rows * (size_t)unit->in);
    if (isfinite(*amax)) return TMB_OK;
    size_t at = 0;
    while (isfinite(y[at]))
        at++;
    const tmb_tensor *t = r->view.codes.tensor;
    return tmb_fail(err, TMB_EDATA, "%s: tensor \"%s\": %s in row %" PRIu64 " of %s; the file is damaged",
                    shard_of(r, t), t->name, isnan(y[at]) ? "not a number" : "an infinity",
                    row + at / (size_t)unit->in, unit->name);
}

tmb_status tmb_reader_rows(tmb_reader *r, const tmb_unit *unit, uint64_t row, size_t rows, float *y,
                           tmb_err *err)
{
    float amax;
    return tmb_reader_rows_amax(r, unit, row, rows, y, &amax, err);
}

tmb_status tmb_reader_rows_amax(tmb_reader *r, const tmb_unit *unit, uint64_t row, size_t rows,
                                float *y, float *amax, tmb_err *err)
{
    TRY(read_tile(r, unit, row, rows, y, err));
    return look_at(r, unit, row, rows, y, amax, err);
}

tmb_status tmb_reader_rows_again(tmb_reader *r, const tmb_unit *unit, uint64_t row, size_t rows,
                                 float *y, tmb_err *err)
{
    return read_tile(r, unit, row, rows, y, err);
}

tmb_status tmb_reader_amax(tmb_reader *r, const tmb_unit *unit, float *work, float *amax,
                           tmb_err *err)
{
    *amax = 0;
    for (uint64_t row = 0; row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t left = unit->out - row;
        float tile;
        TRY(tmb_reader_rows_amax(r, unit, row, left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS,
                                 work, &tile, err));
        if (tile > *amax) *amax = tile;
    }
    return TMB_OK;
}

/* What fetch() reserves for a matrix. */
static uint64_t fetch_bytes(const tmb_matrix *m, uint64_t rows, uint64_t step)
{
    uint64_t line = m->cols * m->size;
    return m->turned ? (m->rows + rows) * line : ((rows - 1) * step + 1) * line;
}

uint64_t tmb_reader_bytes(const tmb_model *model, const tmb_unit *unit)
{
    if (!unit->linear || unit->broken) return 0;
    tmb_stored_view v = tmb_stored_view_of(model, unit);
    uint64_t rows = unit->out < TMB_TILE_ROWS ? unit->out : TMB_TILE_ROWS, step = unit->stored.step;
    uint64_t bytes = fetch_bytes(&v.codes, rows, step) + rows * v.scales * sizeof(float);
    if (v.scaling == TMB_SCALING_TILE)
        bytes += 3 * v.scales * (v.scale.size + sizeof(float)) +
                 (v.scale.turned ? v.scale.rows * v.scale.cols * v.scale.size : 0);
    else if (v.scaling > TMB_SCALING_TENSOR)
        bytes += fetch_bytes(&v.scale, rows, step);
    return bytes;
}

uint64_t tmb_reader_staged_bytes(const tmb_model *model, const tmb_unit *unit, uint64_t rows)
{
    if (!unit->linear || unit->broken) return 0;
    tmb_stored_view v = tmb_stored_view_of(model, unit);
    uint64_t bytes = rows * (v.codes.cols * v.codes.size + v.scales * sizeof(float));
    if (v.scaling == TMB_SCALING_TILE)
        bytes += 3 * v.scales * (v.scale.size + sizeof(float));
    else if (v.scaling > TMB_SCALING_TENSOR)
        bytes += rows * v.scales * v.scale.size;
    return bytes;
}

/* The bytes of matrix m that fetch() wants for these rows of the unit. */
static tmb_status stage_matrix(tmb_staged *s, const tmb_checkpoint *ckpt, const tmb_matrix *m,
                               uint64_t first, uint64_t step, uint64_t rows, tmb_err *err)
{
    uint64_t line = m->cols * m->size;
    if (m->turned) return tmb_staged_add(s, ckpt, m->tensor, m->begin, m->rows * line, err);
    return tmb_staged_add(s, ckpt, m->tensor, m->begin + first * line,
                          ((rows - 1) * step + 1) * line, err);
}

tmb_status tmb_reader_stage(tmb_staged *s, const tmb_model *model, const tmb_unit *unit,
                            uint64_t row, uint64_t rows, tmb_err *err)
{
    enum { NUMBERS = 4096 }; /* bytes of a part that is a number, or one for each expert */
    const tmb_checkpoint *ckpt = model->ckpt;
    if (!unit->linear || unit->broken || !rows) return TMB_OK;
    tmb_stored_view v = tmb_stored_view_of(model, unit);
    uint64_t step = unit->stored.step, first = unit->stored.first + row * step;
    uint64_t last = first + (rows - 1) * step;
    TRY(stage_matrix(s, ckpt, &v.codes, first, step, rows, err));
    if (v.scaling == TMB_SCALING_TILE)
        TRY(stage_matrix(s, ckpt, &v.scale, first / TMB_TILE_ROWS, 1,
                         last / TMB_TILE_ROWS - first / TMB_TILE_ROWS + 1, err));
    else if (v.scaling > TMB_SCALING_TENSOR)
        TRY(stage_matrix(s, ckpt, &v.scale, first, step, rows, err));
    const tmb_part numbers[] = {TMB_PART_GLOBAL, TMB_PART_SHAPE};
    for (int i = 0; i < 2; i++) {
        uint32_t t = unit->stored.part[numbers[i]];
        if (t != TMB_NO_TENSOR && ckpt->tensors[t].bytes <= NUMBERS)
            TRY(tmb_staged_add(s, ckpt, &ckpt->tensors[t], 0, ckpt->tensors[t].bytes, err));
    }
    return TMB_OK;
}

uint64_t tmb_reader_span(const tmb_model *model, const tmb_unit *unit, uint64_t rows)
{
    enum { EDGES = 8 * 4096 }; /* four parts, and what is read around each */
    if (!unit->linear || unit->broken || !rows) return 0;
    tmb_stored_view v = tmb_stored_view_of(model, unit);
    uint64_t step = unit->stored.step, span = (rows - 1) * step + 1;
    uint64_t bytes = (v.codes.turned ? v.codes.rows : span) * v.codes.cols * v.codes.size + EDGES;
    if (v.scaling > TMB_SCALING_TENSOR) {
        uint64_t lines = v.scaling == TMB_SCALING_TILE ? span / TMB_TILE_ROWS + 2 : span;
        bytes += (v.scale.turned ? v.scale.rows : lines) * v.scale.cols * v.scale.size;
    }
    return bytes;
}
