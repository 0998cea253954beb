/* test_stored.c - stored forms that no fixture has: quantized stacks [in, out], tiles that cross a
 * stack's halves, packed codes of another width.  Codes and scales are chosen here, so the values
 * are known by arithmetic. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "moe/model/weight.h"
#include "tests/tap.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

typedef struct source {
    tmb_checkpoint *ckpt;
    tmb_model *model;
    tmb_reader *reader;
} source;

static bool open_source(source *s, const char *path, const tmb_ops *ops, tmb_err *err)
{
    return tmb_checkpoint_open(&s->ckpt, path, err) == TMB_OK &&
           tmb_model_open(&s->model, s->ckpt, err) == TMB_OK &&
           tmb_reader_open(&s->reader, s->model, ops, err) == TMB_OK;
}

static void close_source(source *s)
{
    tmb_reader_close(s->reader);
    tmb_model_close(s->model);
    if (s->ckpt) tmb_checkpoint_close(s->ckpt);
    s->reader = NULL;
    s->model = NULL;
    s->ckpt = NULL;
}

static float *read_all(source *s, const tmb_unit *unit, tmb_err *err)
{
    float *y = malloc((size_t)(unit->out * unit->in) * sizeof *y);
    for (uint64_t row = 0; row < unit->out; row += TMB_TILE_ROWS) {
        uint64_t left = unit->out - row;
        size_t rows = left < TMB_TILE_ROWS ? (size_t)left : TMB_TILE_ROWS;
        if (tmb_reader_rows(s->reader, unit, row, rows, y + row * unit->in, err)) {
            free(y);
            return NULL;
        }
    }
    return y;
}

/* A checkpoint of one folder whose bytes are given. */
typedef struct made {
    char folder[4096];
    source s;
} made;

static void make_checkpoint(made *m, const char *config, const char *header, const void *data,
                            size_t bytes)
{
    const char *tmp = getenv("TMPDIR");
    char path[4200];
    uint64_t n = strlen(header);
    *m = (made){.folder = ""};
    snprintf(m->folder, sizeof m->folder, "%s/tombac-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(m->folder)) exit(99);
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(&n, 8, 1, f) != 1 || fwrite(header, 1, n, f) != n ||
        fwrite(data, 1, bytes, f) != bytes || fclose(f))
        exit(99);
    snprintf(path, sizeof path, "%s/config.json", m->folder);
    f = fopen(path, "wb");
    if (!f || fputs(config, f) < 0 || fclose(f)) exit(99);
}

static void drop_checkpoint(made *m)
{
    char path[4200];
    close_source(&m->s);
    snprintf(path, sizeof path, "%s/model.safetensors", m->folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/config.json", m->folder);
    unlink(path);
    rmdir(m->folder);
}

/* ModelOpt's NVFP4 stack [expert, in / 2, out] and its FP8 stack. */
static void check_stacks(const tmb_ops *ops)
{
    enum { E = 2, H = 32, I = 48 };
    static const float e2m1[16] = {0,    .5f,  1,  1.5f,  2,  3,  4,  6,
                                   -0.f, -.5f, -1, -1.5f, -2, -3, -4, -6};
    static uint8_t codes[E][H / 2][2 * I], scale[E][H / 16][2 * I], down[E][I][H];
    float global[1] = {0.25f}, per_expert[E] = {0.5f, 4};
    for (int e = 0; e < E; e++) {
        for (int r = 0; r < 2 * I; r++) {
            for (int c = 0; c < H / 2; c++)
                codes[e][c][r] = (uint8_t)(37 * r + 11 * c + 5 * e);
            for (int g = 0; g < H / 16; g++)
                scale[e][g][r] = (uint8_t)(0x30 + (r + 3 * g + e) % 16); /* 0.5 … 1.875 */
        }
        for (int i = 0; i < I; i++)
            for (int h = 0; h < H; h++)
                down[e][i][h] = (uint8_t)((i * 7 + h * 3 + e) % 0x7f);
    }
    static uint8_t data[sizeof codes + sizeof scale + 4 + sizeof down + 8];
    uint8_t *at = data;
    memcpy(at, codes, sizeof codes), at += sizeof codes;
    memcpy(at, scale, sizeof scale), at += sizeof scale;
    memcpy(at, global, 4), at += 4;
    memcpy(at, down, sizeof down), at += sizeof down;
    memcpy(at, per_expert, 8);

    made m;
    tmb_err err = {0};
#define X "\"model.layers.0.feed_forward.experts."
    make_checkpoint(
        &m, "{\"model_type\": \"llama4_text\", \"num_local_experts\": 2}",
        "{" X "gate_up_proj\":{\"dtype\":\"U8\",\"shape\":[2,16,96],\"data_offsets\":[0,3072]}," X
        "gate_up_proj_weight_scale\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2,96],\"data_offsets\":["
        "3072,3456]}," X "gate_up_proj_weight_scale_2\":{\"dtype\":\"F32\",\"shape\":[],\"data_"
        "offsets\":[3456,3460]}," X
        "down_proj\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,48,32],\"data_offsets\":[3460,6532]}," X
        "down_proj_weight_scale\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[6532,6540]}}",
        data, sizeof data);
#undef X
    if (!ok(open_source(&m.s, m.folder, ops, &err), "quantized stacks open %s", err.message)) {
        drop_checkpoint(&m);
        return;
    }
    unsigned wrong = 0;
    for (int e = 0; e < E; e++) {
        char name[128];
        for (int up = 0; up < 2; up++) {
            snprintf(name, sizeof name, "model.layers.0.feed_forward.experts.%d.%s_proj", e,
                     up ? "up" : "gate");
            const tmb_unit *u = tmb_model_find(m.s.model, name);
            float *y =
                u && !u->broken && u->out == I && u->in == H ? read_all(&m.s, u, &err) : NULL;
            for (int r = 0; r < I; r++)
                for (int c = 0; c < H; c++) {
                    int row = up * I + r;
                    uint8_t byte = codes[e][c / 2][row];
                    float s, ws;
                    ops->decode(&s, &scale[e][c / 16][row], TMB_F8_E4M3, 1);
                    ws = s * global[0];
                    wrong += !y || y[r * H + c] != e2m1[c % 2 ? byte >> 4 : byte & 15] * ws;
                }
            free(y);
        }
        snprintf(name, sizeof name, "model.layers.0.feed_forward.experts.%d.down_proj", e);
        const tmb_unit *u = tmb_model_find(m.s.model, name);
        float *y = u && !u->broken && u->out == H && u->in == I ? read_all(&m.s, u, &err) : NULL;
        for (int h = 0; h < H; h++)
            for (int i = 0; i < I; i++) {
                float q;
                ops->decode(&q, &down[e][i][h], TMB_F8_E4M3, 1);
                wrong += !y || y[h * I + i] != q * per_expert[e];
            }
        free(y);
    }
    ok(!wrong, "quantized stacks stored [in, out]: %u values wrong %s", wrong, err.message);
    drop_checkpoint(&m);
}

/* FP8 tiles under a stack whose up half begins inside a tile: 200 rows of gate, then 200 of up. */
static void check_tiles(const tmb_ops *ops)
{
    enum { H = 64, I = 200, TILES = 4 };
    static uint8_t data[2 * I * H + TILES * 4 + H * I * 2];
    float scale[TILES] = {1, 2, 4, 8};
    memset(data, 0x38, 2 * I * H); /* 1.0 */
    memcpy(data + 2 * I * H, scale, sizeof scale);
    made m;
    tmb_err err = {0};
    make_checkpoint(&m, "{\"model_type\": \"qwen3_5_moe_text\", \"num_experts\": 1}",
                    "{\"model.layers.0.mlp.experts.gate_up_proj\":{\"dtype\":\"F8_E4M3\",\"shape\":"
                    "[1,400,64],\"data_offsets\":[0,25600]},"
                    "\"model.layers.0.mlp.experts.gate_up_proj_scale_inv\":{\"dtype\":\"F32\","
                    "\"shape\":[1,4,1],\"data_offsets\":[25600,25616]},"
                    "\"model.layers.0.mlp.experts.down_proj\":{\"dtype\":\"BF16\",\"shape\":"
                    "[1,64,200],\"data_offsets\":[25616,51216]}}",
                    data, sizeof data);
    if (!ok(open_source(&m.s, m.folder, ops, &err), "a stack of tiles opens %s", err.message)) {
        drop_checkpoint(&m);
        return;
    }
    unsigned wrong = 0;
    for (int up = 0; up < 2; up++) {
        const tmb_unit *u =
            tmb_model_find(m.s.model, up ? "model.layers.0.mlp.experts.0.up_proj"
                                         : "model.layers.0.mlp.experts.0.gate_proj");
        float *y = u && !u->broken && u->out == I ? read_all(&m.s, u, &err) : NULL;
        for (int r = 0; r < I; r++)
            wrong += !y || y[r * H] != scale[(up * I + r) / 128];
        free(y);
    }
    ok(!wrong, "tile scales follow the stored rows, not those of a half: %u wrong", wrong);
    drop_checkpoint(&m);
}

static void check_damage(const tmb_ops *ops)
{
    static uint16_t data[200 * 8];
    made m;
    tmb_err err = {0};
    float work[128 * 8], amax;
    memset(data, 0, sizeof data);
    data[150 * 8 + 3] = 0xc080; /* -4 */
    make_checkpoint(&m, "{}",
                    "{\"layers.0.mlp.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[200,8],"
                    "\"data_offsets\":[0,3200]}}",
                    data, sizeof data);
    bool opened = open_source(&m.s, m.folder, ops, &err);
    const tmb_unit *u = opened ? tmb_model_find(m.s.model, "layers.0.mlp.up_proj") : NULL;
    ok(u && tmb_reader_amax(m.s.reader, u, work, &amax, &err) == TMB_OK && amax == 4,
       "the largest magnitude of a weight of two tiles %s", err.message);
    drop_checkpoint(&m);

    data[170 * 8 + 1] = 0x7fc0; /* not a number */
    make_checkpoint(&m, "{}",
                    "{\"layers.0.mlp.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[200,8],"
                    "\"data_offsets\":[0,3200]}}",
                    data, sizeof data);
    opened = open_source(&m.s, m.folder, ops, &err);
    u = opened ? tmb_model_find(m.s.model, "layers.0.mlp.up_proj") : NULL;
    ok(u && tmb_reader_rows(m.s.reader, u, 0, 128, work, &err) == TMB_OK, "a sound tile reads");
    ok(u && tmb_reader_rows(m.s.reader, u, 128, 72, work, &err) == TMB_EDATA &&
           strstr(err.message, "layers.0.mlp.up_proj.weight") && strstr(err.message, "row 170"),
       "a NaN is refused with tensor and row: %s", err.message);
    ok(u && tmb_reader_amax(m.s.reader, u, work, &amax, &err) == TMB_EDATA, "by amax too");
    ok(u && tmb_reader_rows(m.s.reader, u, 128, 73, work, &err) == TMB_EINTERNAL,
       "rows past the end are refused");
    ok(u && tmb_reader_bytes(m.s.model, u) == 128 * 8 * 2, "a tile of raw bytes is what is held");
    drop_checkpoint(&m);
}

/* int4 whose weight_shape tells of eight-bit values. */
static void check_shape(const tmb_ops *ops)
{
    static uint8_t data[16 * 8 * 4 + 16 * 2 * 2 + 8];
    int32_t shape[2] = {16, 32};
    memcpy(data + 512 + 64, shape, 8);
    made m;
    tmb_err err = {0};
    float y[16 * 64];
    make_checkpoint(&m, "{}",
                    "{\"a.up_proj.weight_packed\":{\"dtype\":\"I32\",\"shape\":[16,8],"
                    "\"data_offsets\":[0,512]},\"a.up_proj.weight_scale\":{\"dtype\":\"BF16\","
                    "\"shape\":[16,2],\"data_offsets\":[512,576]},\"a.up_proj.weight_shape\":"
                    "{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[576,584]}}",
                    data, sizeof data);
    bool opened = open_source(&m.s, m.folder, ops, &err);
    const tmb_unit *u = opened ? tmb_model_find(m.s.model, "a.up_proj") : NULL;
    ok(u && tmb_reader_rows(m.s.reader, u, 0, 16, y, &err) == TMB_EDATA &&
           strstr(err.message, "weight_shape"),
       "packed codes of another width are refused: %s", err.message);
    drop_checkpoint(&m);
}

int main(void)
{
    const tmb_ops *ops;
    for (int i = 0; (ops = tmb_cpu_ops_at(i)); i++) {
        check_stacks(ops);
        check_tiles(ops);
        check_damage(ops);
        check_shape(ops);
    }
    return done();
}
