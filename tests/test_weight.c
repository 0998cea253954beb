/* test_weight.c - the values of stored weights: every form that a checkpoint may come in, against
 * digests of values decoded beforehand with numpy (tests/data/decoded.txt). */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/io/files.h"
#include "moe/model/weight.h"
#include "tests/header_model.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <math.h>

enum { LINE = 512 };

typedef struct expected {
    char folder[64], name[256], digest[17];
    unsigned long long rows, cols;
    float first, last;
} expected;

static bool next_line(FILE *f, expected *e)
{
    char line[LINE];
    while (fgets(line, sizeof line, f))
        if (*line != '#')
            return sscanf(line, "%63s %255s %llu %llu %f %f %16s", e->folder, e->name, &e->rows,
                          &e->cols, &e->first, &e->last, e->digest) == 7;
    return false;
}

static bool open_data(opened *o, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/%s", getenv("srcdir"), name);
    *o = (opened){0};
    return !tmb_checkpoint_open(&o->ckpt, path, &o->err) &&
           !tmb_model_open(&o->model, o->ckpt, &o->err);
}

static void close_data(opened *o)
{
    tmb_model_close(o->model);
    if (o->ckpt) tmb_checkpoint_close(o->ckpt);
}

/* The whole weight, tile by tile; backwards, so that no tile leans on the one before. */
static float *whole(tmb_reader *r, const tmb_unit *u, tmb_err *err)
{
    float *y = malloc(u->out * u->in * sizeof *y);
    uint64_t tiles = (u->out + TMB_TILE_ROWS - 1) / TMB_TILE_ROWS;
    for (uint64_t t = tiles; t-- > 0;) {
        uint64_t row = t * TMB_TILE_ROWS, left = u->out - row;
        if (tmb_reader_rows(r, u, row, left < TMB_TILE_ROWS ? left : TMB_TILE_ROWS, y + row * u->in,
                            err)) {
            free(y);
            return NULL;
        }
    }
    return y;
}

/* Values, and the largest magnitude as the reader tells it. */
static bool values(tmb_reader *r, const tmb_unit *u, const expected *e, tmb_err *err)
{
    char digest[TMB_SHA256_HEX];
    if (!u->linear || u->broken || u->out != e->rows || u->in != e->cols) {
        printf("# %s: not a Linear of %llu x %llu: %s\n", e->name, e->rows, e->cols,
               u->broken ? u->broken : "another shape");
        return false;
    }
    float *y = whole(r, u, err), *work = malloc(TMB_TILE_ROWS * u->in * sizeof *work), amax,
          most = 0;
    size_t n = u->out * u->in;
    bool fine =
        y && !tmb_sha256(y, n * sizeof *y, digest, err) && strncmp(digest, e->digest, 16) == 0;
    if (!fine)
        printf("# %s %s: %s; begins %g, ends %g, expected %g and %g\n", e->folder, e->name,
               err->message, y ? (double)y[0] : 0, y ? (double)y[n - 1] : 0, (double)e->first,
               (double)e->last);
    for (size_t i = 0; y && i < n; i++)
        if (fabsf(y[i]) > most) most = fabsf(y[i]);
    if (fine && (tmb_reader_amax(r, u, work, &amax, err) || amax != most)) {
        printf("# %s %s: amax is not %g\n", e->folder, e->name, (double)most);
        fine = false;
    }
    free(y);
    free(work);
    return fine;
}

/* The Linears of one folder: all that the file lists, and no others. */
static void check_folder(opened *o, FILE *f, expected *e, const tmb_ops *ops, bool *more)
{
    char folder[64];
    tmb_reader *r;
    uint32_t listed = 0, right = 0, linear = 0;
    strcpy(folder, e->folder);
    bool fine = !tmb_reader_open(&r, o->model, ops, &o->err);
    do {
        const tmb_unit *u = tmb_model_find(o->model, e->name);
        listed++;
        if (!u) printf("# %s: no unit %s\n", folder, e->name);
        right += fine && u && values(r, u, e, &o->err);
        *more = next_line(f, e);
    } while (*more && strcmp(e->folder, folder) == 0);
    for (uint32_t u = 0; u < o->model->n_units; u++)
        linear += o->model->units[u].linear;
    ok(right == listed, "%s: %u of %u Linears decode to the values of the reference", folder, right,
       listed);
    ok(linear == listed, "%s: it has %u Linears, %u listed", folder, linear, listed);
    tmb_reader_close(r);
}

static void check_values(const tmb_ops *ops)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/data/decoded.txt", getenv("srcdir"));
    FILE *f = fopen(path, "r");
    expected e;
    unsigned folders = 0;
    if (!ok(f != NULL, "decoded.txt is there; values with the table %s", ops->name)) return;
    bool more = next_line(f, &e);
    while (more) {
        opened o;
        if (!ok(open_data(&o, e.folder), "%s opens %s", e.folder, o.err.message)) break;
        check_folder(&o, f, &e, ops, &more);
        close_data(&o);
        folders++;
    }
    ok(folders == 12, "all 12 folders were read");
    fclose(f);
}

/* Overwrite bytes of a tensor on disk, behind the reader's back. */
static void poke(const opened *o, const char *tensor, uint64_t at, const void *bytes, size_t n)
{
    char path[4352];
    snprintf(path, sizeof path, "%s/model.safetensors", o->folder);
    int fd = open(path, O_RDWR);
    uint64_t length = 0;
    bool done = fd >= 0 && pread(fd, &length, 8, 0) == 8;
    for (size_t i = 0; done && i < o->ckpt->n_tensors; i++) {
        const tmb_tensor *t = &o->ckpt->tensors[i];
        if (strcmp(t->name, tensor) != 0) continue;
        done = pwrite(fd, bytes, n, (off_t)(8 + length + t->begin + at)) == (ssize_t)n;
    }
    if (!done || close(fd)) {
        perror(path);
        exit(99);
    }
}

/* The error says what the words say: tensor, kind of damage, row. */
static void check_refused(opened *o, const char *unit, const char *tensor, const char *what)
{
    const tmb_unit *u = tmb_model_find(o->model, unit);
    tmb_reader *r = NULL;
    float *work = malloc(TMB_TILE_ROWS * u->in * sizeof *work), amax;
    if (tmb_reader_open(&r, o->model, tmb_cpu_ops(), &o->err)) abort();
    tmb_err rows_err = {0};
    uint64_t row = u->out > TMB_TILE_ROWS ? TMB_TILE_ROWS : 0, n = u->out - row;
    tmb_status status = tmb_reader_rows(r, u, row, n, work, &rows_err);
    ok(status == TMB_EDATA && strstr(rows_err.message, tensor) && strstr(rows_err.message, what),
       "%s is refused: %s", unit, rows_err.message);
    status = tmb_reader_amax(r, u, work, &amax, &o->err);
    ok(status == TMB_EDATA && strstr(o->err.message, what), "%s: by amax too", unit);
    tmb_reader_close(r);
    free(work);
}

static void check_not_finite(void)
{
    static const uint8_t nan16[] = {0xc0, 0x7f}, inf16[] = {0x80, 0xff}, nan8[] = {0x7f};
    static const uint8_t nan32[] = {0, 0, 0xc0, 0x7f}, one32[] = {0, 0, 0x80, 0x3f};
    opened o;
    if (!ok(open_folder(&o, invent("{\"model_type\": \"qwen3_moe\"}",
                                   "m.a.weight BF16 200,32\nm.b.weight BF16 8,32\n"
                                   "m.c.weight F8_E4M3 200,32\nm.c.weight_scale F32\n"
                                   "m.d.weight F8_E4M3 8,32\nm.d.weight_scale F32 8,1\n"
                                   "m.e.weight_packed U8 8,16\nm.e.weight_scale F8_E4M3 8,2\n"
                                   "m.e.weight_global_scale F32 1\n"
                                   "model.layers.0.mlp.experts.gate_up_proj BF16 2,32,64\n"
                                   "model.layers.0.mlp.experts.down_proj BF16 2,64,16\n")),
            "a checkpoint to damage %s", o.err.message))
        return;
    poke(&o, "m.a.weight", (170 * 32 + 5) * 2, nan16, 2);
    check_refused(&o, "m.a", "\"m.a.weight\"", "not a number in row 170 of");
    poke(&o, "m.b.weight", (3 * 32 + 31) * 2, inf16, 2);
    check_refused(&o, "m.b", "\"m.b.weight\"", "an infinity in row 3 of");
    poke(&o, "m.c.weight_scale", 0, one32, 4);
    poke(&o, "m.c.weight", 199 * 32, nan8, 1);
    check_refused(&o, "m.c", "\"m.c.weight\"", "not a number in row 199 of");
    poke(&o, "m.d.weight_scale", 4 * 4, nan32, 4);
    check_refused(&o, "m.d", "\"m.d.weight\"", "not a number in row 4 of");
    check_refused(&o, "m.e", /* 0 / 0 */
                  "\"m.e.weight_packed\"", "not a number in row 0 of");
    poke(&o, "model.layers.0.mlp.experts.gate_up_proj", (32 + 18) * 64 * 2, nan16, 2);
    check_refused(&o, "model.layers.0.mlp.experts.1.up_proj",
                  "\"model.layers.0.mlp.experts.gate_up_proj\"", "not a number in row 2 of");
    close_folder(&o);
}

/* Fill a tensor: E4M3 1 + k / 8 or BF16 1 + k / 128, k running through a period that no dimension
 * divides; F32 scales count 1, 2, 3 … */
static void fill(const opened *o, const char *name)
{
    const tmb_tensor *t = o->ckpt->tensors;
    while (strcmp(t->name, name) != 0)
        t++;
    uint8_t *bytes = malloc(t->bytes);
    for (uint64_t i = 0; t->dtype == TMB_F8_E4M3 && i < t->bytes; i++)
        bytes[i] = (uint8_t)(0x38 + i % 7);
    for (uint64_t i = 0; t->dtype == TMB_BF16 && i < t->bytes / 2; i++) {
        bytes[2 * i] = (uint8_t)(0x80 + i % 127);
        bytes[2 * i + 1] = 0x3f;
    }
    for (uint64_t i = 0; t->dtype == TMB_F32 && i < t->bytes / 4; i++) {
        float value = (float)(i + 1);
        memcpy(bytes + 4 * i, &value, 4);
    }
    poke(o, name, 0, bytes, t->bytes);
    free(bytes);
}

static float at8(uint64_t i)
{
    return 1 + (float)(i % 7) / 8;
}

static float at16(uint64_t i)
{
    return 1 + (float)(i % 127) / 128;
}

#define STACK "model.layers.0.mlp.experts."
#define LLAMA "model.layers.0.feed_forward.experts."

/* Stacks higher than a tile, whose experts are read one after another. */
static void check_large_stacks(void)
{
    enum { I = 200, H = 32, HIGH = 192, WIDE = 256, IN = 48, OUT = 64 };
    opened o;
    tmb_reader *r;
    bool right = true;
    if (!open_folder(&o,
                     invent("{\"model_type\": \"gpt_oss\", \"hidden_size\": 32}", STACK
                            "gate_up_proj BF16 2,32,400\n" STACK "down_proj BF16 2,200,32\n")) ||
        tmb_reader_open(&r, o.model, tmb_cpu_ops(), &o.err))
        abort();
    fill(&o, STACK "gate_up_proj");
    for (uint64_t e = 0; e < 2; e++) {
        const tmb_unit *u = tmb_model_find(o.model, e ? STACK "1.up_proj" : STACK "0.up_proj");
        float *y = u && u->out == I ? whole(r, u, &o.err) : NULL;
        for (uint64_t i = 0; i < I; i++)
            for (uint64_t h = 0; h < H; h++)
                right &= y && y[i * H + h] == at16((e * H + h) * 2 * I + 2 * i + 1);
        free(y);
    }
    ok(right, "every second column of a BF16 stack, past the first tile, of both experts");
    tmb_reader_close(r);
    close_folder(&o);

    right = true;
    if (!open_folder(&o, invent("{\"model_type\": \"llama4_text\"}",
                                LLAMA "gate_up_proj F8_E4M3 2,64,96\n" LLAMA
                                      "gate_up_proj_weight_scale F32 2,1,1\n" LLAMA
                                      "down_proj F8_E4M3 2,48,64\n" LLAMA
                                      "down_proj_weight_scale F32 2,1,1\n")) ||
        tmb_reader_open(&r, o.model, tmb_cpu_ops(), &o.err))
        abort();
    fill(&o, LLAMA "down_proj");
    fill(&o, LLAMA "down_proj_weight_scale");
    for (uint64_t e = 0; e < 2; e++) {
        const tmb_unit *u = tmb_model_find(o.model, e ? LLAMA "1.down_proj" : LLAMA "0.down_proj");
        float *y = u && !u->broken ? whole(r, u, &o.err) : NULL;
        for (uint64_t j = 0; j < OUT; j++)
            for (uint64_t i = 0; i < IN; i++)
                right &= y && y[j * IN + i] == at8((e * IN + i) * OUT + j) * (float)(e + 1);
        free(y);
    }
    ok(right, "each expert of an FP8 stack has its own scale");
    tmb_reader_close(r);
    close_folder(&o);

    right = true;
    if (!open_folder(&o, invent("{\"model_type\": \"qwen3_5_moe\", \"hidden_size\": 256}",
                                STACK "gate_up_proj F8_E4M3 2,384,256\n" STACK
                                      "gate_up_proj_scale_inv F32 2,3,2\n" STACK
                                      "down_proj BF16 2,256,192\n")) ||
        tmb_reader_open(&r, o.model, tmb_cpu_ops(), &o.err))
        abort();
    fill(&o, STACK "gate_up_proj");
    fill(&o, STACK "gate_up_proj_scale_inv");
    const tmb_unit *u = tmb_model_find(o.model, STACK "1.up_proj");
    float *y = u && !u->broken && u->out == HIGH ? whole(r, u, &o.err) : NULL;
    for (uint64_t j = 0; j < HIGH; j++)
        for (uint64_t c = 0; c < WIDE; c++) {
            uint64_t row = HIGH + j, tile = 6 + row / 128 * 2 + c / 128;
            right &= y && y[j * WIDE + c] == at8((2 * HIGH + row) * WIDE + c) * (float)(tile + 1);
        }
    ok(right, "the up half of an FP8 stack begins inside a tile of scales %s",
       u && u->broken ? u->broken : "");
    free(y);
    tmb_reader_close(r);
    close_folder(&o);
}

int main(void)
{
    if (!getenv("srcdir")) setenv("srcdir", ".", 1);
    const tmb_ops *ops;
    for (int i = 0; (ops = tmb_cpu_ops_at(i)); i++)
        check_values(ops);
    check_not_finite();
    check_large_stacks();
    return done();
}
