/* bench_calibrate.c - tombac bench calibrate: a checkpoint made for it, random ids, the whole job
 * and the bare forward pass, against what this machine multiplies and reads in the same run. */
#include "config.h"
#include "src/bench_place.h"
#include "src/commands.h"
#include "src/emit.h"
#include "src/progress.h"
#include "src/table.h"
#include "src/text.h"

#include "kernels/base/clock.h"
#include "kernels/base/team.h"
#include "kernels/cpu/cpu.h"
#include "moe/bench/floors.h"
#include "moe/bench/matmul.h"
#include "moe/bench/random.h"
#include "moe/bench/synthetic.h"
#include "moe/calib/calibrate.h"
#include "moe/infer/forward.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct options {
    tmb_common common;
    const char *model, *dir;
    uint64_t size, max_ram;
    int sequences, length, rounds, ranks, ways;
    bool sparse, keep;
} options;

typedef struct figures {
    tmb_shape shape;
    tmb_synthetic source;
    bool whole, sparse;
    int threads, rounds;
    tmb_calibrate_needs needs;
    tmb_calibrate_spent spent; /* of the best round */
    double job, forward, cpu; /* seconds of the best: the job, the bare forward, processors in it */
    uint64_t peak, weights;   /* bytes: measured; of the layers, as stored */
    double flops;             /* of all tokens */
    double f32, bf16;         /* rates of the floor */
    tmb_floor disk;
} figures;

/* ---- the data ------------------------------------------------------------------------------- */

static tmb_status make_data(tmb_data **out, const options *o, const figures *f,
                            const tmb_bench_place *p, tmb_err *err)
{
    char path[PATH_MAX + 32];
    uint64_t seed = 7, ids = f->shape.vocab;
    if (f->sparse && ids > TMB_ROUTED_IDS) ids = TMB_ROUTED_IDS;
    snprintf(path, sizeof path, "%s/ids.bin", p->source);
    FILE *file = fopen(path, "wb");
    bool fine = file != NULL;
    for (int i = 0; fine && i < o->sequences * o->length; i++) {
        uint32_t id = (uint32_t)(tmb_random(&seed) % ids);
        fine = fwrite(&id, sizeof id, 1, file) == 1;
    }
    if (file && fclose(file)) fine = false;
    if (!fine) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot write", path);
    tmb_source source = {.name = "random", .path = path, .weight = 1};
    tmb_data_options want = {.sources = &source,
                             .n_sources = 1,
                             .ids_type = TMB_IDS_U32,
                             .vocab = f->shape.vocab,
                             .samples = (uint64_t)o->sequences,
                             .length = (uint32_t)o->length,
                             .fit = TMB_FIT_PACK};
    return tmb_data_open(out, &want, err);
}

/* ---- what there is to do ----------------------------------------------------------------------
 */

/* Multiplications and additions of the layers for one token, half a sequence behind it; and the
 * stored bytes of their Linears. */
static void count_work(figures *f, const tmb_model *model, const options *o)
{
    const tmb_shape *s = &f->shape;
    double token = 0;
    for (uint32_t i = 0; i < model->n_units; i++) {
        const tmb_unit *u = &model->units[i];
        if (!u->linear || u->layer < 0) continue;
        double share = u->expert >= 0 ? (double)s->top_k / s->experts : 1;
        token += 2.0 * (double)u->out * (double)u->in * share;
        f->weights += u->out * u->in * 2;
    }
    double keys = s->kv_rank ? s->head_dim + s->rope_dim + s->value_dim : 2.0 * s->head_dim;
    token += 2.0 * s->layers * s->heads * keys * (o->length + 1) / 2;
    f->flops = token * o->sequences * o->length;
}

/* ---- one round ------------------------------------------------------------------------------ */

static tmb_status run_job(figures *f, const tmb_model *model, const tmb_data *data,
                          const tmb_calibrate_options *want, tmb_err *err)
{
    tmb_calibrate_result result = {0};
    tmb_bench_peak_reset();
    double began = tmb_seconds(), cpu = tmb_bench_processor();
    tmb_status status = tmb_calibrate(model, data, want, &result, err);
    double seconds = tmb_seconds() - began;
    uint64_t peak = tmb_bench_peak();
    if (peak > f->peak) f->peak = peak;
    if (!status && (!f->job || seconds < f->job)) {
        f->job = seconds;
        f->cpu = tmb_bench_processor() - cpu;
        f->spent = result.spent;
    }
    tmb_calibrate_result_free(&result);
    unlink(want->out);
    return status;
}

/* All sequences as one batch through all layers, and nothing else. */
static tmb_status run_forward(figures *f, const tmb_model *model, const tmb_data *data,
                              const tmb_calibrate_options *want, tmb_err *err)
{
    tmb_decoder_options o = {.threads = f->threads, .layer_bytes = f->needs.layer_bytes};
    tmb_decoder *d = NULL;
    float *x = NULL;
    double began = tmb_seconds();
    size_t *begin = calloc(data->n_sequences + 1, sizeof *begin);
    tmb_status status = begin ? tmb_decoder_open(&d, model, &o, err)
                              : tmb_fail_memory(err, data->n_sequences * 8, "a batch");
    size_t hidden = status ? 0 : tmb_decoder_config(d)->hidden;
    if (!status && !(x = malloc(data->tokens * hidden * sizeof *x)))
        status = tmb_fail_memory(err, data->tokens * hidden * 4, "a batch");
    for (size_t i = 0; !status && i < data->n_sequences; i++) {
        const tmb_sequence *s = &data->sequences[i];
        begin[i + 1] = begin[i] + s->n;
        status = tmb_decoder_embed(d, s->ids, s->n, x + begin[i] * hidden, err);
    }
    tmb_batch batch = {.x = x, .begin = begin, .sequences = data->n_sequences};
    for (int l = 0; !status && l < tmb_decoder_layers(d); l++) {
        if (want->watch.stop && *want->watch.stop)
            status = tmb_fail(err, TMB_ESYSTEM, "bench: stopped");
        if (!status) status = tmb_decoder_load(d, l, err);
        if (!status) status = tmb_decoder_run(d, &batch, err);
    }
    double seconds = tmb_seconds() - began;
    if (!status && (!f->forward || seconds < f->forward)) f->forward = seconds;
    tmb_decoder_close(d);
    free(begin);
    free(x);
    return status;
}

static tmb_status run_round(figures *f, const options *o, const tmb_bench_place *p,
                            const tmb_model *model, const tmb_data *data,
                            const tmb_calibrate_options *want, tmb_err *err)
{
    double f32 = 0, bf16 = 0;
    TRY(tmb_bench_matmul(&f32, tmb_cpu_nn(), f->threads, false, err));
    TRY(tmb_bench_matmul(&bf16, tmb_cpu_nn(), f->threads, true, err));
    f->f32 = f32 > f->f32 ? f32 : f->f32;
    f->bf16 = bf16 > f->bf16 ? bf16 : f->bf16;
    if (!o->sparse)
        TRY(tmb_floor_measure(&f->disk, TMB_FLOOR_READ, p->source, p->root, 0, true, &want->watch,
                              err));
    tmb_floor_cool(p->source);
    TRY(run_job(f, model, data, want, err));
    if (!o->sparse) {
        tmb_floor_cool(p->source);
        TRY(run_forward(f, model, data, want, err));
    }
    f->rounds++;
    return TMB_OK;
}

static tmb_status run_rounds(figures *f, const options *o, const tmb_bench_place *p,
                             const tmb_watch *watch, tmb_err *err)
{
    char out[PATH_MAX + 32];
    tmb_checkpoint *ckpt = NULL;
    tmb_model *model = NULL;
    tmb_data *data = NULL;
    snprintf(out, sizeof out, "%s/stats.h5", p->root);
    tmb_calibrate_options want = {.out = out,
                                  .ranks = o->ranks,
                                  .ways = o->ways,
                                  .threads = f->threads,
                                  .max_ram = o->max_ram,
                                  .moments = true,
                                  .starved = TMB_STARVED_PEERS,
                                  .watch = *watch};
    tmb_status status = tmb_checkpoint_open(&ckpt, p->source, err);
    if (!status) status = tmb_model_open(&model, ckpt, err);
    if (!status) status = make_data(&data, o, f, p, err);
    if (!status) status = tmb_calibrate_plan(&f->needs, model, data, &want, err);
    if (!status) count_work(f, model, o);
    int rounds = o->sparse ? 1 : o->rounds;
    while (!status && f->rounds < rounds)
        status = run_round(f, o, p, model, data, &want, err);
    tmb_data_close(data);
    tmb_model_close(model);
    tmb_checkpoint_close(ckpt);
    return status;
}

static tmb_status measure(figures *f, const options *o, const tmb_watch *watch, tmb_err *err)
{
    const tmb_shape *shape;
    tmb_bench_place p = {{0}, {0}, {0}};
    TRY(tmb_bench_shape(&shape, o->model, err));
    f->shape = tmb_shape_scaled(shape, o->size ? o->size : o->sparse ? UINT64_MAX : 256 << 20);
    f->whole = f->shape.layers == shape->layers && f->shape.experts == shape->experts &&
               f->shape.hidden == shape->hidden && f->shape.vocab == shape->vocab;
    f->sparse = o->sparse;
    f->threads = o->common.threads > 0 ? o->common.threads : tmb_team_size();
    TRY(tmb_bench_place_room(o->dir, o->sparse ? 0 : tmb_shape_bytes(&f->shape) * 5 / 4, err));
    tmb_status status = tmb_bench_place_make(&p, o->dir, err);
    if (!status)
        status = tmb_synthetic_make(&f->source, p.source, &f->shape,
                                    o->sparse ? TMB_FILL_ROUTES : TMB_FILL_ALL, watch, err);
    if (!status) status = run_rounds(f, o, &p, watch, err);
    tmb_bench_place_remove(&p, o->keep);
    if (!status && o->keep) fprintf(stderr, "tombac: kept %s\n", p.source);
    return status;
}

/* ---- what is shown --------------------------------------------------------------------------- */

typedef struct part {
    const char *name, *key;
    double seconds;
} part;

enum { PARTS = 8 };

static void parts_of(const figures *f, part parts[PARTS])
{
    const tmb_calibrate_spent *s = &f->spent;
    const part named[PARTS] = {{"weights, read and packed", "read", s->read},
                               {"attention", "attention", s->attention},
                               {"routers, experts, MLPs", "mlp", s->mlp},
                               {"rows into statistics", "counting", s->counting},
                               {"hidden states, disk", "hidden", s->hidden},
                               {"ranks: adding, waiting", "adding", s->adding},
                               {"statistics, published", "publishing", s->publishing},
                               {"the rest", "rest", f->job}};
    memcpy(parts, named, sizeof named);
    for (int i = 0; i < PARTS - 1; i++)
        parts[PARTS - 1].seconds -= parts[i].seconds;
}

/* Seconds that the products alone take at the measured rate. */
static double floor_of(const figures *f)
{
    return f->flops / f->bf16;
}

static tmb_status print(const figures *f, uint64_t tokens, tmb_err *err)
{
    char a[TMB_HUMAN_BYTES], b[TMB_HUMAN_BYTES];
    part parts[PARTS];
    tmb_table t;
    printf("source       %s%s: %u layers, %u experts, top %u, hidden %u; %s%s\n", f->shape.name,
           f->whole ? "" : " in miniature", f->shape.layers, f->shape.experts, f->shape.top_k,
           f->shape.hidden, tmb_human_bytes(a, f->source.bytes),
           f->sparse ? ", experts and attention are holes" : "");
    printf("job          %s tokens, %d thread%s, best of %d; processors %.2f s\n",
           tmb_human_integer(a, tokens), f->threads, f->threads == 1 ? "" : "s", f->rounds, f->cpu);
    printf("memory       %s at the peak, %s planned\n", tmb_human_bytes(a, f->peak),
           tmb_human_bytes(b, f->needs.peak_bytes));
    printf("products     %.1f GFLOP/s, with weights in BF16 %.1f", f->f32 * 1e-9, f->bf16 * 1e-9);
    if (f->disk.read > 0)
        printf("; cold read %.2f GB/s", (double)f->disk.read_bytes / f->disk.read * 1e-9);
    fputs("\n\n", stdout);
    tmb_table_open(&t, "|>seconds|>tokens/s|>GFLOP/s|>x products alone");
    const struct {
        const char *name;
        double seconds;
    } rows[] = {{"calibrate", f->job}, {"forward alone", f->forward}};
    for (int i = 0; i < 2; i++)
        if (rows[i].seconds > 0)
            tmb_table_row(&t, "%s\t%.2f\t%.0f\t%.1f\t%.2f", rows[i].name, rows[i].seconds,
                          (double)tokens / rows[i].seconds, f->flops / rows[i].seconds * 1e-9,
                          rows[i].seconds / floor_of(f));
    bool fine = tmb_table_close(&t, 0, stdout);
    fputs("\n", stdout);
    parts_of(f, parts);
    tmb_table_open(&t, "calibrate|>seconds|>share");
    for (int i = 0; i < PARTS; i++)
        tmb_table_row(&t, "%s\t%.2f\t%.0f %%", parts[i].name, parts[i].seconds,
                      100 * parts[i].seconds / f->job);
    fine = tmb_table_close(&t, 0, stdout) && fine;
    if (!f->sparse && f->spent.read > 0)
        printf("\nweights      %.2f GB/s while they are read\n",
               (double)f->weights / f->spent.read * 1e-9);
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static tmb_status print_json(const figures *f, uint64_t tokens, tmb_err *err)
{
    tmb_emit e;
    part parts[PARTS];
    tmb_emit_open(&e);
    tmb_json *o = tmb_emit_object(&e, e.root, "source");
    tmb_emit_text(&e, o, "model", f->shape.name);
    tmb_emit_bool(&e, o, "whole", f->whole);
    tmb_emit_bool(&e, o, "sparse", f->sparse);
    tmb_emit_int(&e, o, "layers", f->shape.layers);
    tmb_emit_int(&e, o, "experts", f->shape.experts);
    tmb_emit_int(&e, o, "hidden", f->shape.hidden);
    tmb_emit_int(&e, o, "bytes", f->source.bytes);
    tmb_emit_int(&e, e.root, "tokens", tokens);
    tmb_emit_int(&e, e.root, "threads", (uint64_t)f->threads);
    tmb_emit_int(&e, e.root, "rounds", (uint64_t)f->rounds);
    tmb_emit_num(&e, e.root, "seconds", f->job);
    tmb_emit_num(&e, e.root, "forward_seconds", f->forward);
    tmb_emit_num(&e, e.root, "processor_seconds", f->cpu);
    tmb_emit_num(&e, e.root, "flops", f->flops);
    tmb_emit_num(&e, e.root, "products_alone_seconds", floor_of(f));
    tmb_emit_int(&e, e.root, "peak_bytes", f->peak);
    tmb_emit_int(&e, e.root, "peak_planned_bytes", f->needs.peak_bytes);
    tmb_emit_int(&e, e.root, "weight_bytes", f->weights);
    o = tmb_emit_object(&e, e.root, "seconds_by_part");
    parts_of(f, parts);
    for (int i = 0; i < PARTS; i++)
        tmb_emit_num(&e, o, parts[i].key, parts[i].seconds);
    o = tmb_emit_object(&e, e.root, "floor");
    tmb_emit_num(&e, o, "f32_flops_per_second", f->f32);
    tmb_emit_num(&e, o, "bf16_flops_per_second", f->bf16);
    tmb_emit_num(&e, o, "read_seconds", f->disk.read);
    tmb_emit_int(&e, o, "read_bytes", f->disk.read_bytes);
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {.sequences = 16, .length = 512, .rounds = 3};
    const char *operands[TMB_OPERANDS];
    figures f = {.rounds = 0};
    tmb_meter meter;
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    if (o.length < 2 || (uint64_t)o.length * (uint64_t)o.sequences > 1 << 24)
        return tmb_fail(err, TMB_EUSAGE,
                        "--sequences %d --length %d: at least 2 and at most %d tokens", o.sequences,
                        o.length, 1 << 24);
    tmb_meter_open(&meter, &o.common);
    tmb_watch watch = tmb_meter_watch(&meter);
    tmb_status status = measure(&f, &o, &watch, err);
    tmb_meter_close(&meter);
    uint64_t tokens = (uint64_t)o.sequences * (uint64_t)o.length;
    if (!status && o.common.json) return print_json(&f, tokens, err);
    if (!status && !o.common.quiet) return print(&f, tokens, err);
    return status;
}

static const tmb_arg args[] = {
    {"model", 0, TMB_ARG_TEXT, offsetof(options, model), "M",
     "qwen3-30b-a3b, mixtral-8x7b, deepseek-v3 or kimi-k2 [the first]", NULL},
    {"size", 0, TMB_ARG_SIZE, offsetof(options, size), "SIZE",
     "of the checkpoint: its proportions in miniature [256M; --sparse: all of it]", NULL},
    {"sequences", 0, TMB_ARG_COUNT, offsetof(options, sequences), "N", "of random ids [16]", NULL},
    {"length", 0, TMB_ARG_COUNT, offsetof(options, length), "N", "tokens of each [512]", NULL},
    {"dir", 0, TMB_ARG_TEXT, offsetof(options, dir), "DIR",
     "where everything is made: its disk is what is measured [.]", NULL},
    {"rounds", 0, TMB_ARG_COUNT, offsetof(options, rounds), "N",
     "floors, job and forward this often, the best of each counts [3]", NULL},
    {"max-ram", 0, TMB_ARG_SIZE, offsetof(options, max_ram), "SIZE", "limit of the job [none]",
     NULL},
    {"ranks", 0, TMB_ARG_COUNT, offsetof(options, ranks), "N", "ranks of the job [1]", NULL},
    {"expert-parallel", 0, TMB_ARG_COUNT, offsetof(options, ways), "N",
     "ranks that share the experts [1]", NULL},
    {"sparse", 0, TMB_ARG_FLAG, offsetof(options, sparse), NULL,
     "files of full size; all but routers, norms and ids' embeddings is holes", NULL},
    {"keep", 0, TMB_ARG_FLAG, offsetof(options, keep), NULL, "keep the checkpoint", NULL},
    {0},
};

const tmb_command tmb_bench_calibrate = {
    .name = "bench calibrate",
    .synopsis = "[options]",
    .about = "Calibrate a made-up checkpoint, against its matrix products and reading alone",
    .help = "  tombac bench calibrate --model deepseek-v3 --size 1G --dir /big/disk\n"
            "  tombac bench calibrate --model kimi-k2 --sparse --sequences 2 --length 16\n",
    .operand = "",
    .args = args,
    .run = run,
};
