/* trace.c - the tensors of trace.h: the file is laid out first, and each is written where it
 * belongs as it comes, a part of the sequences at a time. */
#include "config.h"
#include "moe/infer/trace.h"
#include "moe/io/calls.h"
#include "moe/io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PART_TOKENS = 4096 }; /* more when one sequence is longer */

/* Which tensors of a layer are in the file, by index; -1: not there. */
typedef struct places {
    int hidden, logits, topk, weight;
} places;

typedef struct tracer {
    tmb_decoder *d;
    const tmb_trace_input *in;
    unsigned what;
    const char *path;
    char *temporary;
    int fd;
    uint64_t total; /* bytes of the checkpoint, for the watcher */
    uint64_t data;  /* where the data buffer begins in the file */
    tmb_tensor *tensors;
    size_t n_tensors;
    places *layer; /* [layers] */
    int logits;
    size_t width; /* floats of a row of x */
    size_t row;   /* the first token of the part that is run */
    uint64_t ties;
    int64_t *wide; /* scratch: [part's tokens * max(top_k, 1)] */
    tmb_arena arena;
    tmb_err *err;
} tracer;

/* ------------------------------------------------------------------ layout of the file */

static int plan(tracer *t, const char *name, tmb_dtype dtype, uint64_t rows, uint64_t width)
{
    size_t n = t->in->begin[t->in->sequences], count = t->in->sequences;
    uint64_t *shape = tmb_arena_alloc(&t->arena, 3 * sizeof *shape);
    bool even = rows == n && count && n % count == 0;
    for (size_t s = 0; even && s < count; s++)
        even = t->in->begin[s + 1] - t->in->begin[s] == n / count;
    bool per_token = dtype == TMB_F32 ? strncmp(name, "router", 6) != 0 : !width;
    int rank = 0;
    if (!shape || !name) return -1;
    if (even && per_token) {
        shape[rank++] = count;
        shape[rank++] = n / count;
    } else {
        shape[rank++] = rows;
    }
    if (width) shape[rank++] = width;
    tmb_tensor *last = &t->tensors[t->n_tensors];
    *last =
        (tmb_tensor){.name = name, .shape = shape, .rank = (uint8_t)rank, .dtype = (uint8_t)dtype};
    last->bytes = rows * (width ? width : 1) * (dtype == TMB_I64 ? 8 : 4);
    if (t->n_tensors) last->begin = last[-1].begin + last[-1].bytes;
    return (int)t->n_tensors++;
}

static const char *numbered(tracer *t, const char *what, int layer)
{
    return tmb_arena_printf(&t->arena, "%s.%d", what, layer);
}

/* Integers first, so that everything is aligned. */
static tmb_status plan_all(tracer *t)
{
    const tmb_config *c = tmb_decoder_config(t->d);
    size_t n = t->in->begin[t->in->sequences], layers = (size_t)c->layers;
    t->tensors = tmb_arena_alloc(&t->arena, (4 * layers + 3) * sizeof *t->tensors);
    t->layer = tmb_arena_alloc(&t->arena, layers * sizeof *t->layer);
    if (!t->tensors || !t->layer) return tmb_fail_memory(t->err, layers, "a trace");
    plan(t, "input_ids", TMB_I64, n, 0);
    if (t->tensors[0].rank == 1) plan(t, "sequence_begin", TMB_I64, t->in->sequences + 1, 0);
    for (int l = 0; l < c->layers; l++) {
        bool routed = t->what & TMB_TRACE_ROUTER && tmb_decoder_is_sparse(t->d, l);
        t->layer[l] = (places){-1, -1, -1, -1};
        if (routed) t->layer[l].topk = plan(t, numbered(t, "router_topk", l), TMB_I64, n, c->top_k);
    }
    for (int l = 0; l < c->layers; l++) {
        places *p = &t->layer[l];
        if (p->topk >= 0)
            p->logits = plan(t, numbered(t, "router_logits", l), TMB_F32, n, c->n_experts);
        if (p->topk >= 0)
            p->weight = plan(t, numbered(t, "router_weight", l), TMB_F32, n, c->top_k);
        if (t->what & TMB_TRACE_HIDDEN)
            p->hidden = plan(t, numbered(t, "hidden", l), TMB_F32, n, tmb_decoder_state(t->d));
    }
    t->logits = t->what & TMB_TRACE_LOGITS ? plan(t, "logits", TMB_F32, n, c->vocab) : -1;
    return TMB_OK;
}

/* ------------------------------------------------------------------ writing */

static tmb_status put(tracer *t, int tensor, size_t row, size_t rows, const void *values)
{
    const tmb_tensor *x = &t->tensors[tensor];
    uint64_t each = x->bytes / t->in->begin[t->in->sequences];
    return tmb_file_pwrite(t->fd, values, (size_t)(rows * each), t->data + x->begin + row * each,
                           t->temporary, t->err);
}

static tmb_status put_integers(tracer *t, int tensor, size_t row, size_t rows,
                               const uint32_t *values, size_t width)
{
    for (size_t i = 0; i < rows * width; i++)
        t->wide[i] = values[i];
    return put(t, tensor, row, rows, t->wide);
}

static tmb_status see_router(void *ctx, const tmb_router_seen *r, tmb_err *err)
{
    (void)err;
    tracer *t = ctx;
    const places *p = &t->layer[r->layer];
    t->ties += r->ties;
    TRY(put_integers(t, p->topk, t->row, r->tokens, r->chosen, r->top_k));
    TRY(put(t, p->logits, t->row, r->tokens, r->logits));
    return put(t, p->weight, t->row, r->tokens, r->weight);
}

static tmb_status begin_file(tracer *t)
{
    char *text = NULL;
    size_t n = 0;
    t->temporary = tmb_arena_printf(&t->arena, "%s.part", t->path);
    if (!t->temporary) return tmb_fail_memory(t->err, 0, "a name");
    TRY(tmb_header_format(&text, &n, t->tensors, t->n_tensors, t->path, t->err));
    uint64_t length = n;
    t->data = 8 + length;
    t->fd = tmb_openat(AT_FDCWD, t->temporary,
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    tmb_status status =
        t->fd < 0 ? tmb_fail_errno(t->err, TMB_ECREATE, "%s: cannot create", t->temporary) : TMB_OK;
    if (!status) status = tmb_file_pwrite(t->fd, &length, sizeof length, 0, t->temporary, t->err);
    if (!status) status = tmb_file_pwrite(t->fd, text, n, 8, t->temporary, t->err);
    free(text);
    return status;
}

static tmb_status end_file(tracer *t, tmb_status status)
{
    if (t->fd < 0) return status;
    if (!status && tmb_fsync(t->fd))
        status = tmb_fail_errno(t->err, TMB_EIO, "%s: cannot write", t->temporary);
    if (tmb_close(t->fd) && !status)
        status = tmb_fail_errno(t->err, TMB_EIO, "%s: cannot write", t->temporary);
    if (!status && rename(t->temporary, t->path))
        status = tmb_fail_errno(t->err, TMB_ECREATE, "%s: cannot rename", t->temporary);
    if (status) unlink(t->temporary);
    return status;
}

/* ------------------------------------------------------------------ the run */

static size_t part_end(const tmb_trace_input *in, size_t first)
{
    size_t end = first + 1;
    while (end < in->sequences && in->begin[end + 1] - in->begin[first] <= PART_TOKENS)
        end++;
    return end;
}

/* The hidden states in rows of x, one behind the other. */
static tmb_status put_hidden(tracer *t, int tensor, const float *x, size_t rows)
{
    size_t state = tmb_decoder_state(t->d);
    tmb_status status = TMB_OK;
    if (state == t->width) return put(t, tensor, t->row, rows, x);
    for (size_t i = 0; !status && i < rows; i++)
        status = put(t, tensor, t->row + i, 1, x + i * t->width);
    return status;
}

/* The loaded layer over all sequences. */
static tmb_status run_layer(tracer *t, int layer, float *x, size_t *begin)
{
    const tmb_trace_input *in = t->in;
    tmb_observer observer = {.ctx = t, .router = t->what & TMB_TRACE_ROUTER ? see_router : NULL};
    for (size_t s = 0; s < in->sequences; s = part_end(in, s)) {
        size_t end = part_end(in, s), n = in->begin[end] - in->begin[s];
        t->row = in->begin[s];
        for (size_t i = s; i <= end; i++)
            begin[i - s] = in->begin[i] - t->row;
        tmb_batch batch = {.x = x + t->row * t->width,
                           .begin = begin,
                           .sequences = end - s,
                           .observer = &observer};
        TRY(tmb_decoder_run(t->d, &batch, t->err));
        if (t->layer[layer].hidden >= 0) TRY(put_hidden(t, t->layer[layer].hidden, batch.x, n));
    }
    return TMB_OK;
}

static void tell(const tracer *t, const tmb_watch *watch, int done)
{
    uint64_t all = t->total, layers = (uint64_t)tmb_decoder_layers(t->d);
    tmb_progress p = {.phase = "trace",
                      .done_units = (uint32_t)done,
                      .total_units = (uint32_t)layers,
                      .total_bytes = all,
                      .done_bytes = all / layers * (uint64_t)done};
    if (watch && watch->progress) watch->progress(watch->ctx, &p);
}

static tmb_status run_head(tracer *t, const float *x)
{
    const tmb_config *c = tmb_decoder_config(t->d);
    size_t n = t->in->begin[t->in->sequences], some = n < 512 ? n : 512;
    float *logits = malloc(some * c->vocab * sizeof *logits);
    if (!logits)
        return tmb_fail_memory(t->err, (uint64_t)some * c->vocab * sizeof *logits, "logits");
    tmb_status status = TMB_OK;
    for (size_t row = 0; !status && row < n; row += some) {
        size_t rows = n - row < some ? n - row : some;
        status = tmb_decoder_head(t->d, x + row * t->width, rows, logits, NULL, t->err);
        if (!status) status = put(t, t->logits, row, rows, logits);
    }
    free(logits);
    return status;
}

static tmb_status run_all(tracer *t, const tmb_watch *watch)
{
    const tmb_config *c = tmb_decoder_config(t->d);
    const tmb_trace_input *in = t->in;
    size_t n = in->begin[in->sequences], width = c->top_k ? c->top_k : 1;
    size_t longest = 0;
    for (size_t s = 0; s < in->sequences; s++)
        if (in->begin[s + 1] - in->begin[s] > longest) longest = in->begin[s + 1] - in->begin[s];
    t->width = tmb_decoder_reach(t->d, longest);
    float *x = malloc(n * t->width * sizeof *x);
    size_t *begin = malloc((in->sequences + 1) * sizeof *begin);
    t->wide = malloc((n * width + in->sequences + 1) * sizeof *t->wide);
    tmb_status status =
        x && begin && t->wide
            ? TMB_OK
            : tmb_fail_memory(t->err, (uint64_t)n * t->width * sizeof *x, "hidden states");
    if (!status) status = tmb_decoder_embed(t->d, in->ids, n, x, t->err);
    for (size_t i = 0; !status && i < n; i++)
        t->wide[i] = in->ids[i];
    if (!status) status = put(t, 0, 0, n, t->wide);
    bool uneven = t->tensors[0].rank == 1;
    for (size_t i = 0; !status && uneven && i <= in->sequences; i++)
        t->wide[i] = (int64_t)in->begin[i];
    if (!status && uneven)
        status = tmb_file_pwrite(t->fd, t->wide, (size_t)t->tensors[1].bytes,
                                 t->data + t->tensors[1].begin, t->temporary, t->err);
    for (int l = 0; !status && l < c->layers; l++) {
        tell(t, watch, l);
        if (watch && watch->stop && *watch->stop)
            status = tmb_fail(t->err, TMB_ESYSTEM, "stopped in layer %d; nothing is kept", l);
        if (!status) status = tmb_decoder_load(t->d, l, t->err);
        if (!status) status = run_layer(t, l, x, begin);
    }
    if (!status) tell(t, watch, c->layers);
    if (!status && t->logits >= 0) status = run_head(t, x);
    free(t->wide);
    free(begin);
    free(x);
    return status;
}

tmb_status tmb_trace(tmb_decoder *d, const tmb_trace_input *input, unsigned what, const char *path,
                     const tmb_watch *watch, tmb_trace_result *result, tmb_err *err)
{
    tracer t = {.d = d, .in = input, .what = what, .path = path, .fd = -1, .err = err};
    t.total = tmb_decoder_model(d)->ckpt->total_bytes;
    if (!input->sequences || !input->begin[input->sequences])
        return tmb_fail(err, TMB_EDATA, "there are no tokens to run");
    tmb_status status = plan_all(&t);
    if (!status) status = begin_file(&t);
    if (!status) status = run_all(&t, watch);
    status = end_file(&t, status);
    *result = (tmb_trace_result){.tokens = input->begin[input->sequences], .ties = t.ties};
    if (!status)
        result->bytes =
            t.data + t.tensors[t.n_tensors - 1].begin + t.tensors[t.n_tensors - 1].bytes;
    tmb_arena_free(&t.arena);
    return status;
}
