#include "config.h"
#include "moe/bench/matmul.h"

#include "kernels/base/clock.h"
#include "kernels/base/mem.h"
#include "kernels/base/team.h"
#include "moe/bench/random.h"

#include <stdlib.h>

enum {
    OUTER = 1536, /* rows of x */
    SIDE = 1024,  /* of the square weight */
    PIECE_ROWS = 384,
    PIECE_PANELS = 4,
    ROUNDS = 12,
    PIECES = OUTER / PIECE_ROWS * (SIDE / TMB_NN_PANEL / PIECE_PANELS)
};

typedef struct product {
    const tmb_nn *nn;
    tmb_packed w;
    const float *x; /* packed */
    float *y;       /* [OUTER, SIDE] */
} product;

static void do_piece(void *ctx, size_t i)
{
    const product *p = ctx;
    size_t row = i % (OUTER / PIECE_ROWS) * PIECE_ROWS,
           panel = i / (OUTER / PIECE_ROWS) * PIECE_PANELS;
    p->nn->gemm(p->y + row * SIDE, SIDE, p->x + row * SIDE, PIECE_ROWS, SIDE, &p->w, panel,
                PIECE_PANELS, NULL);
}

tmb_status tmb_bench_matmul(double *rate, const tmb_nn *nn, int threads, bool bf16, tmb_err *err)
{
    const uint64_t bytes = (uint64_t)OUTER * SIDE * sizeof(float);
    float *plain = tmb_aligned(bytes), *x = tmb_aligned(bytes);
    void *w = tmb_aligned((uint64_t)SIDE * SIDE * sizeof(float));
    product p = {.nn = nn, .w = {w, SIDE, SIDE, bf16}, .x = x, .y = plain};
    uint64_t seed = 1;
    *rate = 0;
    if (plain && x && w) {
        for (size_t i = 0; i < (size_t)OUTER * SIDE; i++)
            plain[i] = tmb_bf16_to_f32(tmb_f32_to_bf16(tmb_random_normal(&seed, 1)));
        nn->pack(&p.w, 0, plain, SIDE, SIDE);
        nn->pack_rows(x, plain, OUTER, SIDE, SIDE);
        for (int round = 0; round < ROUNDS; round++) {
            double began = tmb_seconds();
            tmb_team_each(threads, PIECES, 1, do_piece, &p);
            double now = 2.0 * OUTER * SIDE * SIDE / (tmb_seconds() - began);
            *rate = now > *rate ? now : *rate;
        }
    }
    tmb_status status = *rate > 0 ? TMB_OK : tmb_fail_memory(err, 2 * bytes, "a matrix product");
    free(plain);
    free(x);
    free(w);
    return status;
}
