/* The bytes that ModelOpt and compressed-tensors write, against ours: tests/data/golden/README.md.
 *
 * Where we differ on purpose stands in `exceptions`, by file and case, and is checked too. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/format/formats.h"
#include "moe/io/safetensors.h"
#include "tests/tap.h"

#include <stdbool.h>
#include <string.h>

/* One file of tensors, whole in memory. */
typedef struct shelf {
    tmb_header header;
    unsigned char *data;
} shelf;

static bool shelf_open(shelf *s, const char *name)
{
    char path[4096];
    const char *srcdir = getenv("srcdir");
    snprintf(path, sizeof path, "%s/tests/data/golden/%s.safetensors", srcdir ? srcdir : ".", name);
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    unsigned char length[8];
    uint64_t n = 0;
    bool good = fread(length, 1, 8, f) == 8;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | length[i];
    fseek(f, 0, SEEK_END);
    uint64_t data = (uint64_t)ftell(f) - 8 - n;
    fseek(f, 8, SEEK_SET);
    char *text = malloc(n);
    s->data = malloc(data);
    good =
        good && text && s->data && fread(text, 1, n, f) == n && fread(s->data, 1, data, f) == data;
    fclose(f);
    tmb_err err = {0};
    if (good && tmb_header_parse(&s->header, text, n, data, name, &err) == TMB_OK) return true;
    printf("# %s: %s\n", path, err.message);
    return false;
}

static void shelf_close(shelf *s)
{
    tmb_header_free(&s->header);
    free(s->data);
}

static const tmb_tensor *find(const shelf *s, const char *stem, const char *variant,
                              const char *tensor)
{
    char name[512];
    snprintf(name, sizeof name, "%s%s%s%s%s", stem, variant ? "/" : "", variant ? variant : "",
             tensor ? "/" : "", tensor ? tensor : "");
    for (size_t i = 0; i < s->header.n_tensors; i++)
        if (!strcmp(s->header.tensors[i].name, name)) return &s->header.tensors[i];
    return NULL;
}

/* What is compared: a file, our format, and how the file spells the parts. */
typedef struct golden {
    const char *file, *format, *codes, *scale, *global, *shape;
} golden;

static const golden goldens[] = {
    {"nvfp4.modelopt", "nvfp4", "weight", "weight_scale", "weight_scale_2", NULL},
    {"nvfp4-w4a16.modelopt", "nvfp4-w4a16", "weight", "weight_scale", "weight_scale_2", NULL},
    {"fp8-tensor.modelopt", "fp8", "weight", NULL, "weight_scale", NULL},
    {"fp8-tensor.compressed-tensors", "fp8", "weight", NULL, "weight_scale", NULL},
    {"fp8-channel.modelopt", "fp8-channel", "weight", "weight_scale", NULL, NULL},
    {"fp8-channel.compressed-tensors", "fp8-channel", "weight", "weight_scale", NULL, NULL},
    {"fp8-block.modelopt", "fp8-block", "weight", "weight_scale", NULL, NULL},
    {"fp8-block.compressed-tensors", "fp8-block", "weight", "weight_scale", NULL, NULL},
    {"mxfp4.compressed-tensors", "mxfp4", "weight_packed", "weight_scale", NULL, NULL},
    {"mxfp8.modelopt", "mxfp8", "weight", "weight_scale", NULL, NULL},
    {"int4.compressed-tensors", "int4", "weight_packed", "weight_scale", NULL, "weight_shape"},
};

/* ZEROS: a scale of something all zero is 1 here, and in the library 2^-23, or E8M0 byte 0; the
 * codes are equal.  RAISED: amax below the smallest normal float is raised to it here and by
 * ModelOpt, not by compressed-tensors. */
typedef enum difference { NONE, ZEROS, RAISED } difference;
static const struct {
    const char *file, *stem;
    difference kind;
} exceptions[] = {
    {"fp8-tensor.compressed-tensors", "g16.all_zero", ZEROS},
    {"fp8-channel.compressed-tensors", "g16.all_zero", ZEROS},
    {"fp8-channel.compressed-tensors", "g16.zero_blocks", ZEROS},
    {"fp8-channel.compressed-tensors", "g16.subnormal", RAISED},
    {"fp8-block.compressed-tensors", "g16.all_zero", ZEROS},
    {"fp8-block.compressed-tensors", "g16.subnormal", RAISED},
    {"mxfp4.compressed-tensors", "g32.all_zero", ZEROS},
    {"mxfp4.compressed-tensors", "g32.zero_blocks", ZEROS},
    {"mxfp4.compressed-tensors", "g32.neg_zero", ZEROS},
    {"mxfp8.modelopt", "g32.all_zero", ZEROS},
    {"mxfp8.modelopt", "g32.zero_blocks", ZEROS},
    {"mxfp8.modelopt", "g32.neg_zero", ZEROS},
    {"int4.compressed-tensors", "g128.all_zero", ZEROS},
    {"int4.compressed-tensors", "g128.zero_blocks", ZEROS},
    {"int4.compressed-tensors", "g128.neg_zero", ZEROS},
};

static difference expected_difference(const char *file, const char *stem)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (!strcmp(exceptions[i].file, file) && !strcmp(exceptions[i].stem, stem))
            return exceptions[i].kind;
    return NONE;
}

/* Largest magnitude of the matrices that share a scale with `stem`, itself included: the members
 * of g16.shared_x are called g16.shared_x.member. */
static float joint_amax(const tmb_ops *ops, const shelf *inputs, const char *stem, const float *x,
                        size_t n)
{
    float top = ops->amax(x, n);
    if (!strstr(stem, ".shared_")) return top;
    size_t group = (size_t)(strrchr(stem, '.') - stem) + 1;
    for (size_t i = 0; i < inputs->header.n_tensors; i++) {
        const tmb_tensor *t = &inputs->header.tensors[i];
        if (strncmp(t->name, stem, group) != 0) continue;
        float *other = malloc(t->bytes * 2);
        ops->decode(other, inputs->data + t->begin, TMB_BF16, t->bytes / 2);
        float amax = ops->amax(other, t->bytes / 2);
        top = amax > top ? amax : top;
        free(other);
    }
    return top;
}

/* Bytes of ours that differ from the library's; under ZEROS, elements that read 1 here and the
 * library's zero value there are counted in *zeros instead. */
static size_t differing(const unsigned char *ours, const unsigned char *theirs, size_t n,
                        size_t width, difference kind, size_t *zeros)
{
    static const unsigned char one32[] = {0, 0, 0x80, 0x3f}, eps32[] = {0, 0, 0, 0x34};
    static const unsigned char one8[] = {127}, eps8[] = {0};
    size_t bad = 0;
    for (size_t i = 0; i < n; i += width) {
        if (!memcmp(ours + i, theirs + i, width)) continue;
        bool zero = !memcmp(ours + i, width == 4 ? one32 : one8, width) &&
                    !memcmp(theirs + i, width == 4 ? eps32 : eps8, width);
        if (kind == ZEROS && zero)
            ++*zeros;
        else
            bad++;
    }
    return bad;
}

/* Our three parts of one matrix. */
typedef struct quantized {
    unsigned char *codes, *scale;
    tmb_geometry code_shape, scale_shape;
    float global;
} quantized;

static quantized quantize(const tmb_format *f, const tmb_ops *ops, const float *x, size_t rows,
                          size_t cols, float amax)
{
    quantized q = {.global = f->global_scale ? f->global_scale(amax) : 1.0f};
    f->part(f, TMB_PART_CODES, rows, cols, &q.code_shape);
    if (!f->part(f, TMB_PART_SCALE, rows, cols, &q.scale_shape)) q.scale_shape.bytes = 0;
    q.codes = calloc(1, q.code_shape.bytes);
    q.scale = calloc(1, q.scale_shape.bytes + 1);
    float *work = malloc(tmb_format_work(cols) * sizeof *work);
    if (!q.codes || !q.scale || !work) abort();
    for (size_t r = 0; r < rows; r += TMB_TILE_ROWS) {
        size_t n = rows - r < TMB_TILE_ROWS ? rows - r : TMB_TILE_ROWS;
        f->encode(f, ops, TMB_SCALE_MAX, x + r * cols, n, cols, q.global,
                  q.codes + tmb_format_row_offset(&q.code_shape, rows, r),
                  q.scale + tmb_format_row_offset(&q.scale_shape, rows, r), work);
    }
    free(work);
    return q;
}

static const tmb_tensor *expected(const shelf *file, const char *stem, const char *tensor)
{
    const tmb_tensor *safe = find(file, stem, "expect_safe", tensor);
    return safe ? safe : find(file, stem, "expect_f32", tensor);
}

static int case_is_equal(const golden *g, const tmb_ops *ops, const shelf *inputs,
                         const shelf *file, const char *stem)
{
    const tmb_format *f = tmb_format_find(g->format);
    const tmb_tensor *in = find(inputs, stem, NULL, NULL);
    const tmb_tensor *codes = expected(file, stem, g->codes);
    const tmb_tensor *scale = g->scale ? expected(file, stem, g->scale) : NULL;
    const tmb_tensor *global = g->global ? expected(file, stem, g->global) : NULL;
    const tmb_tensor *shape = g->shape ? expected(file, stem, g->shape) : NULL;
    if (!f || !in || !codes || (g->scale && !scale) || (g->global && !global)) return 0;
    size_t experts = in->rank == 3 ? in->shape[0] : 1;
    size_t rows = in->shape[in->rank - 2], cols = in->shape[in->rank - 1], n = rows * cols;
    difference kind = expected_difference(g->file, stem);
    size_t bad_codes = 0, bad_scales = 0, zeros = 0;
    float *x = malloc(n * sizeof *x);
    for (size_t e = 0; e < experts; e++) {
        ops->decode(x, inputs->data + in->begin + e * n * 2, TMB_BF16, n);
        quantized q = quantize(f, ops, x, rows, cols, joint_amax(ops, inputs, stem, x, n));
        const unsigned char *want = file->data + codes->begin + e * q.code_shape.bytes;
        if (codes->bytes != experts * q.code_shape.bytes) return 0;
        bad_codes += differing(q.codes, want, q.code_shape.bytes, 1, NONE, NULL);
        if (scale) {
            size_t width = tmb_dtype_bits(q.scale_shape.dtype) / 8;
            if (scale->bytes != experts * q.scale_shape.bytes) return 0;
            bad_scales += differing(q.scale, file->data + scale->begin + e * q.scale_shape.bytes,
                                    q.scale_shape.bytes, width, kind, &zeros);
        }
        if (global)
            bad_scales += differing((unsigned char *)&q.global, file->data + global->begin + e * 4,
                                    4, 4, kind, &zeros);
        if (shape) {
            int64_t ours[2] = {(int64_t)rows, (int64_t)cols};
            bad_scales += memcmp(ours, file->data + shape->begin + e * 16, 16) != 0;
        }
        free(q.codes);
        free(q.scale);
    }
    free(x);
    /* An exception that no longer is one is an error too. */
    int good = kind == RAISED ? bad_scales != 0 : !bad_codes && !bad_scales;
    if (kind == ZEROS) good &= zeros != 0;
    if (!good)
        printf("# %s %s: %zu codes and %zu scales differ, %zu zero scales\n", g->file, stem,
               bad_codes, bad_scales, zeros);
    return good;
}

static void compare_file(const golden *g, const tmb_ops *ops, const shelf *inputs)
{
    shelf file;
    if (!ok(shelf_open(&file, g->file), "%s opens", g->file)) return;
    int cases = 0, equal = 0;
    for (size_t i = 0; i < file.header.n_tensors; i++) {
        const char *name = file.header.tensors[i].name, *slash = strchr(name, '/');
        char stem[256], want[64];
        snprintf(want, sizeof want, "/expect_f32/%s", g->codes);
        if (!slash || strcmp(slash, want) != 0) continue;
        snprintf(stem, sizeof stem, "%.*s", (int)(slash - name), name);
        cases++;
        equal += case_is_equal(g, ops, inputs, &file, stem);
    }
    ok(cases >= 16 && equal == cases, "%s, %s: %d of %d cases equal in every byte", g->file,
       ops->name, equal, cases);
    shelf_close(&file);
}

int main(void)
{
    shelf inputs;
    if (!ok(shelf_open(&inputs, "inputs"), "the inputs open")) return done();
    const tmb_ops *ops;
    for (int k = 0; (ops = tmb_cpu_ops_at(k)); k++)
        for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++)
            compare_file(&goldens[i], ops, &inputs);
    shelf_close(&inputs);
    return done();
}
