/* test_bitflips - one bit of an output is flipped, anywhere: `verify` finds it by its checksums,
 * always.  What it finds without them, and against the source, is counted by class and printed: the
 * table of doc/trust.md.  A sample in make check, 10,000 flips in make check-long. */
#include "config.h"
#include "moe/verify/verify.h"
#include "tests/run_job.h"

enum { ALL_FLIPS = 10008, SAMPLE_FLIPS = 240 };

static const char *const classes[] = {
    "header",       "codes",       "block scales", "global scales",        "input scales",
    "KV scales",    "kept values", "config.json",  "hf_quant_config.json", "index",
    "carried over", "tombac.json",
};
enum {
    HEADER,
    CODES,
    BLOCK,
    GLOBAL,
    INPUT,
    KV,
    KEPT,
    CONFIG,
    HF,
    INDEX,
    CARRIED,
    SUMMARY,
    CLASSES = sizeof classes / sizeof *classes
};

/* A run of bytes of one class. */
typedef struct range {
    const char *file;
    uint64_t begin, bytes;
} range;

typedef struct kind {
    range *ranges;
    size_t n;
    uint64_t bytes;
    unsigned flips, by_sums, alone, against;
} kind;

static kind kinds[CLASSES];

static void add(int class, const char *file, uint64_t begin, uint64_t bytes)
{
    kind *k = &kinds[class];
    if (!bytes) return;
    k->ranges = realloc(k->ranges, (k->n + 1) * sizeof *k->ranges);
    k->ranges[k->n++] = (range){strdup(file), begin, bytes};
    k->bytes += bytes;
}

static bool ends(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

static int class_of(const tmb_tensor *t)
{
    if (ends(t->name, ".k_scale") || ends(t->name, ".v_scale")) return KV;
    if (ends(t->name, ".input_scale")) return INPUT;
    if (ends(t->name, ".weight_scale_2")) return GLOBAL;
    if (ends(t->name, ".weight_scale")) return t->rank ? BLOCK : GLOBAL;
    return t->dtype == TMB_U8 || t->dtype == TMB_F8_E4M3 ? CODES : KEPT;
}

/* Every byte of the folder, sorted by class. */
static void sort_bytes(const char *out)
{
    tmb_checkpoint *c = NULL;
    tmb_err err;
    if (tmb_checkpoint_open(&c, out, &err)) return;
    for (size_t i = 0; i < c->n_shards; i++)
        add(HEADER, c->shards[i].name, 0, c->shards[i].data_begin);
    for (size_t i = 0; i < c->n_tensors; i++) {
        const tmb_shard *s = &c->shards[c->tensors[i].shard];
        add(class_of(&c->tensors[i]), s->name, s->data_begin + c->tensors[i].begin,
            c->tensors[i].bytes);
    }
    static const char *const named[] = {"config.json", "model.safetensors.index.json"};
    for (size_t i = 0; i < 2 + c->n_other_files; i++) {
        const char *name = i < 2 ? named[i] : c->other_files[i - 2];
        struct stat st;
        if (fstatat(c->dirfd, name, &st, 0)) continue;
        int class = i == 0                                  ? CONFIG
                    : i == 1                                ? INDEX
                    : !strcmp(name, "tombac.json")          ? SUMMARY
                    : !strcmp(name, "hf_quant_config.json") ? HF
                                                            : CARRIED;
        add(class, name, 0, (uint64_t)st.st_size);
    }
    tmb_checkpoint_close(c);
}

/* Does verify fail?  *told: it says that no checksum was compared. */
static bool fails(const char *out, const tmb_model *source, bool checksums, bool *told)
{
    tmb_checkpoint *c = NULL;
    tmb_model *m = NULL;
    tmb_verify_report *r = NULL;
    tmb_verify_options options = {.threads = 1, .checksums = checksums, .against = source};
    bool failed = tmb_checkpoint_open(&c, out, NULL) || tmb_model_open(&m, c, NULL) ||
                  tmb_verify(&r, m, &options, NULL) || r->n_errors;
    *told = false;
    for (uint32_t i = 0; r && i < r->n_findings; i++)
        *told |= strcmp(r->findings[i].check, "no-checksums") == 0;
    tmb_verify_report_close(r);
    tmb_model_close(m);
    tmb_checkpoint_close(c);
    return failed;
}

static uint64_t draw(uint64_t *state, uint64_t below)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (*state >> 17) % below;
}

static bool flip(const char *out, const range *r, uint64_t at, int bit)
{
    char path[1024];
    unsigned char byte;
    snprintf(path, sizeof path, "%s/%s", out, r->file);
    int fd = open(path, O_RDWR);
    bool good = fd >= 0 && pread(fd, &byte, 1, (off_t)(r->begin + at)) == 1;
    byte ^= (unsigned char)(1 << bit);
    good = good && pwrite(fd, &byte, 1, (off_t)(r->begin + at)) == 1;
    return fd >= 0 && !close(fd) && good;
}

static void try_class(const char *out, int class, unsigned flips, const tmb_model *source)
{
    kind *k = &kinds[class];
    uint64_t state = 1 + (uint64_t) class;
    unsigned honest = 0, silent = 0;
    for (unsigned i = 0; i < flips && k->bytes; i++) {
        uint64_t at = draw(&state, k->bytes);
        int bit = (int)draw(&state, 8);
        const range *r = k->ranges;
        for (; at >= r->bytes; r++)
            at -= r->bytes;
        bool told, heard;
        if (!flip(out, r, at, bit)) break;
        k->flips++;
        k->by_sums += fails(out, NULL, true, &told);
        bool alone = fails(out, NULL, false, &heard);
        k->alone += alone;
        k->against += fails(out, source, false, &told);
        silent += !alone;
        honest += !alone && heard;
        if (!flip(out, r, at, bit)) break;
    }
    ok(k->flips == flips && k->by_sums == flips, "%s: %u of %u flips are found by checksums",
       classes[class], k->by_sums, flips);
    ok(honest == silent, "%s: without them, verify says that it cannot know", classes[class]);
}

static void print_table(void)
{
    printf("# %-20s %8s %6s %10s %8s %8s\n", "class", "bytes", "flips", "checksums", "without",
           "against");
    for (int i = 0; i < CLASSES; i++)
        printf("# %-20s %8llu %6u %9.1f%% %7.1f%% %7.1f%%\n", classes[i],
               (unsigned long long)kinds[i].bytes, kinds[i].flips,
               100.0 * kinds[i].by_sums / (kinds[i].flips ? kinds[i].flips : 1),
               100.0 * kinds[i].alone / (kinds[i].flips ? kinds[i].flips : 1),
               100.0 * kinds[i].against / (kinds[i].flips ? kinds[i].flips : 1));
}

int main(void)
{
    make_root();
    const char *out = in_root("out"), *source = data_path("arch/qwen3_moe");
    request r = {.source = source,
                 .out = out,
                 .rules = "*experts* = nvfp4\n* = fp8\n[kv_cache]\nformat = fp8\n",
                 .layout = "modelopt",
                 .shard_size = 200000,
                 .threads = 1};
    tmb_err err = {0};
    tmb_checkpoint *c = NULL;
    tmb_model *m = NULL;
    bool told;
    tmb_status status = run_here(&r, NULL, &err);
    if (!status) status = tmb_checkpoint_open(&c, source, &err);
    if (!status) status = tmb_model_open(&m, c, &err);
    if (!ok(!status, "an output to damage %s", err.message)) return done();
    ok(!fails(out, m, true, &told) && !told, "it passes as it is");
    sort_bytes(out);
    unsigned all = getenv("TOMBAC_LONG") ? ALL_FLIPS : SAMPLE_FLIPS;
    for (int i = 0; i < CLASSES; i++)
        try_class(out, i, all / CLASSES, m);
    ok(kinds[KEPT].against == kinds[KEPT].flips, "kept values: every flip differs from the source");
    print_table();
    tmb_model_close(m);
    tmb_checkpoint_close(c);
    for (int i = 0; i < CLASSES; i++) {
        for (size_t k = 0; k < kinds[i].n; k++)
            free((char *)kinds[i].ranges[k].file);
        free(kinds[i].ranges);
    }
    return done();
}
