/* bench_stats.c - what statistics add to a forward pass: a layer of a synthetic model with and
 * without them, in turns, in seconds of processor time.
 *
 * Usage: bench_stats [SHAPE [BYTES [TOKENS [THREADS]]]] */
#include "config.h"
#include "moe/bench/synthetic.h"
#include "moe/calib/tap.h"
#include "moe/infer/forward.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* One run of layer 0 over the tokens; kind 0: nobody looks, 1: squares, 2: second moments. */
static tmb_status run(double *took, tmb_decoder *d, const tmb_model *model, size_t tokens,
                      size_t hidden, int kind, int threads, tmb_err *err)
{
    size_t begin[65];
    float *x = malloc(tokens * hidden * sizeof *x);
    int32_t *ids = malloc(tokens * sizeof *ids);
    tmb_stats_options o = {.moments = kind == 2, .sources = 1, .threads = threads};
    tmb_stats_layer *layer = NULL;
    tmb_status status = tmb_stats_layer_new(&layer, model, 0, &o, err);
    tmb_tap tap = {.layer = layer};
    tmb_observer observer = tmb_tap_observer(&tap);
    size_t sequences = tokens / 512 ? tokens / 512 : 1;
    if (sequences > 64) sequences = 64;
    for (size_t s = 0; s <= sequences; s++)
        begin[s] = tokens * s / sequences;
    for (size_t i = 0; i < tokens; i++)
        ids[i] = (int32_t)(i * 7919 % 1000);
    if (!status) status = tmb_decoder_embed(d, ids, tokens, x, err);
    if (!status) status = tmb_decoder_load(d, 0, err);
    tmb_batch batch = {
        .x = x, .begin = begin, .sequences = sequences, .observer = kind ? &observer : NULL};
    double began = seconds();
    if (!status) status = tmb_decoder_run(d, &batch, err);
    *took = seconds() - began;
    tmb_tap_close(&tap);
    tmb_stats_layer_free(layer);
    free(ids);
    free(x);
    return status;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/bench_stats-XXXXXX";
    tmb_err err = {0};
    tmb_synthetic made;
    const tmb_watch nobody = {0};
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_decoder *d = NULL;
    double best[3] = {1e9, 1e9, 1e9}, took;
    const tmb_shape *shape = tmb_shape_find(argc > 1 ? argv[1] : "qwen3-30b-a3b");
    uint64_t bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 300000000;
    size_t tokens = argc > 3 ? strtoull(argv[3], NULL, 10) : 2048;
    int threads = argc > 4 ? atoi(argv[4]) : 1;
    if (!shape || !mkdtemp(dir)) return 1;
    tmb_shape scaled = tmb_shape_scaled(shape, bytes);
    tmb_decoder_options o = {.threads = threads};
    tmb_status status = tmb_synthetic_make(&made, dir, &scaled, TMB_FILL_ALL, &nobody, &err);
    if (!status) status = tmb_checkpoint_open(&ckpt, dir, &err);
    if (!status) status = tmb_model_open(&model, ckpt, &err);
    if (!status) status = tmb_decoder_open(&d, model, &o, &err);
    for (int round = 0; round < 4 && !status; round++)
        for (int kind = 0; kind < 3 && !status; kind++) {
            status = run(&took, d, model, tokens, scaled.hidden, kind, threads, &err);
            best[kind] = took < best[kind] ? took : best[kind];
        }
    if (status)
        fprintf(stderr, "%s\n", err.message);
    else
        printf("%s: hidden %u, %u experts of %u, top %u; %zu tokens, %d threads\n"
               "layer alone %.3f s, with squares %.3f s (+%.1f %%), with second moments %.3f s "
               "(+%.1f %%)\n",
               scaled.name, scaled.hidden, scaled.experts, scaled.moe_inter, scaled.top_k, tokens,
               threads, best[0], best[1], 100 * (best[1] / best[0] - 1), best[2],
               100 * (best[2] / best[0] - 1));
    tmb_decoder_close(d);
    if (model) tmb_model_close(model);
    if (ckpt) tmb_checkpoint_close(ckpt);
    tmb_synthetic_remove(dir);
    return (int)status;
}
