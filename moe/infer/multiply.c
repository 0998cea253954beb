/* multiply.c - the matrix product of a whole step, cut into pieces that threads take.
 *
 * First the rows are packed, then the products of all experts at hand are computed: a piece is some
 * rows times some panels, small enough that its inputs stay in the second cache while the panels go
 * by.  The cut changes no result (nn.h). */
#include "config.h"
#include "moe/infer/decoder.h"

#include "kernels/base/team.h"

#include <stdlib.h>

enum {
    PIECE_ROWS = 384, /* of packed rows, TMB_NN_DEPTH of each: 384 KiB; a multiple of TMB_NN_ROWS */
    PIECE_PANELS = 4,
    LONG_ROWS = 1536,  /* that tmb_multiply_long packs at a time */
    ROWS_AT_ONCE = 16, /* that a thread takes in tmb_each_row */
};

size_t tmb_part_end(const tmb_batch *b, size_t first)
{
    size_t end = first + 1;
    while (end < b->sequences && b->begin[end + 1] - b->begin[first] <= TMB_PART_TOKENS)
        end++;
    return end;
}

size_t tmb_part_most(const tmb_batch *b)
{
    size_t most = 0;
    for (size_t i = 0; i < b->sequences; i = tmb_part_end(b, i)) {
        size_t n = b->begin[tmb_part_end(b, i)] - b->begin[i];
        most = n > most ? n : most;
    }
    return most;
}

size_t tmb_longest(const tmb_batch *b)
{
    size_t longest = 0;
    for (size_t s = 0; s < b->sequences; s++)
        if (b->begin[s + 1] - b->begin[s] > longest) longest = b->begin[s + 1] - b->begin[s];
    return longest;
}

float *tmb_floats(size_t n, size_t width, tmb_err *err)
{
    uint64_t bytes;
    float *p = NULL;
    if (tmb_mul(n, width, &bytes) && tmb_mul(bytes, sizeof *p, &bytes)) p = tmb_aligned(bytes);
    if (!p) tmb_fail_memory(err, (unsigned long long)n * width * sizeof *p, "the forward pass");
    return p;
}

tmb_product tmb_product_of(const tmb_weight *w, const float *x, size_t rows, float *y)
{
    return (tmb_product){
        .w = w, .x = x, .rows = rows, .x_stride = w->in, .y = y, .y_stride = w->out};
}

void tmb_each_row(const tmb_decoder *d, size_t rows, void (*row)(void *ctx, size_t row), void *ctx)
{
    tmb_team_each(d->threads, rows, ROWS_AT_ONCE, row, ctx);
}

typedef struct norming {
    const tmb_decoder *d;
    float *y;
    const float *x, *weight;
    size_t n, stride;
    float eps;
} norming;

static void norm_row(void *ctx, size_t i)
{
    const norming *r = ctx;
    r->d->nn->rms_norm(r->y + i * r->stride, r->x + i * r->stride, r->weight, r->n, r->eps);
}

void tmb_norm_rows(const tmb_decoder *d, float *y, const float *x, const tmb_vector *weight,
                   size_t rows, size_t n, size_t stride, float eps)
{
    norming norm = {d, y, x, weight->values, n, stride, eps};
    tmb_each_row(d, rows, norm_row, &norm);
}

static size_t blocks(size_t rows)
{
    return (rows + TMB_NN_ROWS - 1) / TMB_NN_ROWS;
}

/* Products and where their packed rows and pieces begin. */
typedef struct step {
    const tmb_nn *nn;
    const tmb_product *product;
    size_t n;
    float **packed;      /* [n] */
    size_t *first_block; /* [n + 1] blocks of rows to pack; none for a product that shares */
    size_t *first_piece; /* [n + 1] */
} step;

/* The product that item i belongs to. */
static size_t owner(const size_t *first, size_t n, size_t i)
{
    size_t low = 0, high = n;
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if (first[mid] <= i)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static void pack_block(void *ctx, size_t i)
{
    const step *s = ctx;
    size_t p = owner(s->first_block, s->n, i);
    const tmb_product *q = &s->product[p];
    size_t row = (i - s->first_block[p]) * TMB_NN_ROWS, left = q->rows - row;
    s->nn->pack_rows(s->packed[p] + row * q->w->in, q->x + row * q->x_stride,
                     left < TMB_NN_ROWS ? left : TMB_NN_ROWS, q->w->in, q->x_stride);
}

static size_t row_pieces(size_t rows)
{
    return (rows + PIECE_ROWS - 1) / PIECE_ROWS;
}

static size_t panel_pieces(size_t out)
{
    return (tmb_packed_panels(out) + PIECE_PANELS - 1) / PIECE_PANELS;
}

static void do_piece(void *ctx, size_t i)
{
    const step *s = ctx;
    size_t p = owner(s->first_piece, s->n, i);
    const tmb_product *q = &s->product[p];
    i -= s->first_piece[p];
    size_t row = i % row_pieces(q->rows) * PIECE_ROWS,
           panel = i / row_pieces(q->rows) * PIECE_PANELS;
    size_t rows = q->rows - row, panels = tmb_packed_panels(q->w->out) - panel;
    s->nn->gemm(q->y + row * q->y_stride, q->y_stride, s->packed[p] + row * q->w->in,
                rows < PIECE_ROWS ? rows : PIECE_ROWS, q->w->in, &q->w->packed, panel,
                panels < PIECE_PANELS ? panels : PIECE_PANELS, q->w->bias.values);
}

static bool shares(const tmb_product *p, size_t i)
{
    return i && p[i].x == p[i - 1].x && p[i].rows == p[i - 1].rows &&
           p[i].w->in == p[i - 1].w->in && p[i].x_stride == p[i - 1].x_stride;
}

static tmb_status reserve(tmb_decoder *d, size_t floats, tmb_err *err)
{
    if (floats <= d->packed_room) return TMB_OK;
    free(d->packed_rows);
    d->packed_room = 0;
    d->packed_rows = tmb_floats(floats, 1, err);
    if (!d->packed_rows) return TMB_ESYSTEM;
    d->packed_room = floats;
    return TMB_OK;
}

tmb_status tmb_multiply(tmb_decoder *d, const tmb_product *products, size_t n, tmb_err *err)
{
    step s = {.nn = d->nn, .product = products, .n = n};
    s.packed = malloc(n * sizeof(float *));
    s.first_block = malloc(2 * (n + 1) * sizeof *s.first_block);
    tmb_status status = TMB_OK;
    if (!s.packed || !s.first_block) {
        status = tmb_fail_memory(err, n * sizeof(size_t), "a step");
        goto out;
    }
    s.first_piece = s.first_block + n + 1;
    size_t n_blocks = 0, n_pieces = 0, floats = 0;
    for (size_t i = 0; i < n; i++) {
        const tmb_product *p = &products[i];
        s.first_block[i] = n_blocks;
        s.first_piece[i] = n_pieces;
        n_pieces += row_pieces(p->rows) * panel_pieces(p->w->out);
        if (shares(products, i)) continue;
        n_blocks += blocks(p->rows);
        floats += blocks(p->rows) * TMB_NN_ROWS * p->w->in;
    }
    s.first_block[n] = n_blocks;
    s.first_piece[n] = n_pieces;
    status = reserve(d, floats, err);
    if (status) goto out;
    float *at = d->packed_rows;
    for (size_t i = 0; i < n; i++) {
        s.packed[i] = shares(products, i) ? s.packed[i - 1] : at;
        if (!shares(products, i)) at += blocks(products[i].rows) * TMB_NN_ROWS * products[i].w->in;
    }
    tmb_team_each(d->threads, n_blocks, 4, pack_block, &s);
    tmb_team_each(d->threads, n_pieces, 1, do_piece, &s);
out:
    free(s.packed);
    free(s.first_block);
    return status;
}

tmb_status tmb_multiply_long(tmb_decoder *d, const tmb_product *product, tmb_err *err)
{
    for (size_t row = 0; row < product->rows; row += LONG_ROWS) {
        tmb_product p = *product;
        p.x += row * p.x_stride;
        p.y += row * p.y_stride;
        p.rows = p.rows - row < LONG_ROWS ? p.rows - row : LONG_ROWS;
        TRY(tmb_multiply(d, &p, 1, err));
    }
    return TMB_OK;
}

tmb_status tmb_project(tmb_run *run, const tmb_weight *w, const float *x, size_t rows, float *y)
{
    tmb_product p = {.w = w, .x = x, .rows = rows, .x_stride = w->in, .y = y, .y_stride = w->out};
    return tmb_multiply_long(run->d, &p, run->err);
}

uint64_t tmb_multiply_bytes(size_t rows, size_t in)
{
    return (uint64_t)blocks(rows < LONG_ROWS ? rows : LONG_ROWS) * TMB_NN_ROWS * in * sizeof(float);
}
