/* estimate.c - how long the arithmetic of a plan takes on this machine. */
#include "config.h"
#include "src/estimate.h"

#include "kernels/base/clock.h"
#include "kernels/cpu/cpu.h"
#include "moe/calib/weigh.h"

#include <math.h>
#include <stdlib.h>

enum { COLS = 2048, TILE = TMB_TILE_ROWS * COLS };
#define LONG_ENOUGH 4e-3 /* seconds a format is timed */

typedef struct bench {
    float *x, *y, *work;
    uint16_t *source;
    uint8_t *codes, *scales;
    float *lanes; /* of second moments that say nothing: as much work as others */
} bench;

/* What a worker does with a tile: read twice (amax, then encode), decode, compare. */
static void one_tile(const bench *b, const tmb_format *f, tmb_scale_rule rule, const tmb_ops *ops)
{
    tmb_sums sums = {0};
    ops->decode(b->x, b->source, TMB_BF16, TILE);
    float global = f->global_scale ? f->global_scale(ops->amax(b->x, TILE)) : 1;
    ops->decode(b->x, b->source, TMB_BF16, TILE);
    const tmb_moments moments = {true, b->lanes};
    if (rule == TMB_SCALE_HESSIAN)
        f->encode_weighted(f, ops, &moments, b->x, TMB_TILE_ROWS, COLS, global, b->codes, b->scales,
                           b->work);
    else
        f->encode(f, ops, rule, b->x, TMB_TILE_ROWS, COLS, global, b->codes, b->scales, b->work);
    f->decode(f, ops, b->y, TMB_TILE_ROWS, COLS, b->codes, b->scales, global, b->work);
    ops->compare(&sums, b->x, b->y, TILE);
}

/* Seconds a weight. */
static double time_format(const bench *b, const tmb_spec *spec)
{
    const tmb_ops *ops = tmb_cpu_ops();
    one_tile(b, spec->format, spec->scale, ops); /* touches every page */
    double began = tmb_seconds(), took;
    int tiles = 0;
    do {
        one_tile(b, spec->format, spec->scale, ops);
        tiles++;
        took = tmb_seconds() - began;
    } while (took < LONG_ENOUGH);
    return took / ((double)tiles * TILE);
}

double tmb_estimate_seconds(const tmb_plan *plan)
{
    bench b = {
        .x = malloc(TILE * sizeof(float)),
        .y = malloc(TILE * sizeof(float)),
        .work = malloc(tmb_format_work(COLS) * sizeof(float)),
        .source = malloc(TILE * sizeof(uint16_t)),
        .codes = malloc(TILE),
        .scales = malloc(TILE * sizeof(float)),
        .lanes = malloc(tmb_weigh_floats(COLS / 16, true) * sizeof(float)),
    };
    double seconds = -1;
    if (b.x && b.y && b.work && b.source && b.codes && b.scales && b.lanes) {
        static const float nothing[COLS / 16 * TMB_MOMENT_FULL];
        tmb_weigh_table(nothing, COLS / 16, true, 0, b.lanes);
        uint32_t random = 1;
        for (int i = 0; i < TILE; i++) { /* weights of ordinary size: BF16 from 2^-12 to 2^-4 */
            random = random * 1664525 + 1013904223;
            b.source[i] = (uint16_t)((random >> 31) << 15 | (115 + (random >> 28) % 8) << 7 |
                                     (random >> 16 & 127));
        }
        seconds = 0;
        const tmb_spec *timed = NULL;
        double each = 0;
        for (uint32_t i = 0; i < plan->n_rows; i++) {
            const tmb_plan_row *row = &plan->rows[i];
            if (!row->spec || !row->spec->format) continue;
            if (row->spec != timed) each = time_format(&b, row->spec);
            timed = row->spec;
            seconds += each * (double)row->parameters;
        }
        seconds /= plan->options.threads > 0 ? plan->options.threads : 1;
    }
    free(b.x);
    free(b.y);
    free(b.work);
    free(b.source);
    free(b.codes);
    free(b.scales);
    free(b.lanes);
    return seconds;
}
