/* bundle_internal.h - what the two ways of working on a unit share: bundle.c on the processor,
 * bundle_gpu.c on a GPU. */
#ifndef TMB_QUANTIZE_BUNDLE_INTERNAL_H
#define TMB_QUANTIZE_BUNDLE_INTERNAL_H

#include "moe/quantize/bundle.h"
#include "moe/quantize/encode.h"
#include "moe/quantize/slab.h"
#include "moe/quantize/slot.h"

typedef struct tmb_gpu_side tmb_gpu_side;

struct tmb_worker {
    const tmb_plan *plan;
    const tmb_ops *ops;
    tmb_pulse pulse;
    tmb_reader *reader;
    float *x, *y, *work;     /* some rows of a tile, and decoded again; scratch of the format */
    uint8_t *codes, *scales; /* of TMB_TILE_ROWS */
    tmb_slab slab[2];        /* of codes, of scales */
    float *amax;             /* [units of the largest bundle] */
    tmb_weighing *weighing;
    float *lanes; /* the table of moments of `weighed`, which gate and up share */
    tmb_weigh_place weighed;
    tmb_gpu_side *gpu; /* NULL: everything on the processor */
};

/* A unit at work: where its parts go in this shard. */
typedef struct tmb_task {
    const tmb_unit *unit;
    const tmb_spec *spec;
    tmb_encoding encoding;
    const tmb_slot *slot[TMB_PARTS]; /* NULL: not in this shard */
    tmb_part_dims dims[TMB_PARTS];
    uint64_t code_line, scale_line; /* bytes of a row in the worker's tile */
    size_t rows;                    /* at once */
} tmb_task;

/* Rows that are worked on at once, which the order of the error sums follows. */
size_t tmb_rows_at_once(const tmb_unit *unit, const tmb_format *format);
/* data: rows `row` .. of a part, as the format lays them. */
tmb_status tmb_task_write(tmb_worker *k, const tmb_task *task, tmb_part part, uint64_t row,
                          uint64_t rows, const uint8_t *data, tmb_shard_writer *w,
                          tmb_err *err) TMB_CHECKED;
/* Say that rows `row` .. are done. */
tmb_status tmb_task_beat(const tmb_worker *k, const tmb_task *task, uint64_t row, uint64_t rows,
                         tmb_err *err) TMB_CHECKED;

/* ---- bundle_gpu.c ------------------------------------------------------------------------------
 */

void tmb_gpu_side_close(tmb_gpu_side *gpu);
/* Before a bundle that one worker does alone: units that fit together stay on the device between
 * scan and encode.  NULL: a bundle that is shared; nothing stays. */
void tmb_gpu_keep(tmb_worker *k, const tmb_bundle *bundle);
/* As tmb_worker_scan() and tmb_worker_encode().  *done false: a value is not finite, which the
 * processor's way finds the words for. */
tmb_status tmb_gpu_scan(tmb_worker *k, uint32_t unit, uint64_t begin, uint64_t end, float *amax,
                        bool *done, tmb_err *err) TMB_CHECKED;
/* tiles: one for each TMB_TILE_ROWS, or, when `one`, the sum of all in their order. */
tmb_status tmb_gpu_encode(tmb_worker *k, const tmb_task *task, uint64_t begin, uint64_t end,
                          tmb_shard_writer *w, tmb_sums *tiles, bool one, bool *done,
                          tmb_err *err) TMB_CHECKED;

#endif
