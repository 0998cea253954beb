/* Every malformed checkpoint of tests/malformed/checkpoints/ is refused with exactly its message
 * and status, in reasonable time; and no file that was cut or changed anywhere is ever half taken.
 *
 *   tests/test_malformed              run them
 *   tests/test_malformed write DIR    write them below DIR and list them: STATUS PATH MESSAGE */
#include "config.h"
#include "kernels/base/dtype.h"
#include "moe/io/checkpoint.h"
#include "tests/malformed/checkpoints/cases.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what, const char *name)
{
    printf("Bail out! cannot make %s of %s\n", what, name);
    exit(1);
}

static void write_file(const char *path, const char *head, size_t n_head, const char *text,
                       size_t n, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0 || write(fd, head, n_head) != (ssize_t)n_head || write(fd, text, n) != (ssize_t)n ||
        (size > n_head + n && ftruncate(fd, (off_t)size)))
        fail("the file", path);
    close(fd);
}

static void make_step(const char *folder, const step *s)
{
    char path[512], length[8], *text = NULL;
    uint64_t n = s->n;
    snprintf(path, sizeof path, "%s/%s", folder, s->file);
    if (s->op == STEP_SHARD || s->op == STEP_RAW) {
        text = malloc(s->n + 1);
        if (!text) fail("the text", path);
        for (size_t i = 0; i < s->n; i++)
            text[i] = s->text[i] == '\'' ? '"' : s->text[i];
        for (int i = 0; i < 8; i++)
            length[i] = (char)(n >> 8 * i);
    }
    switch (s->op) {
    case STEP_SHARD:
        write_file(path, length, 8, text, s->n, 8 + s->n + s->size);
        break;
    case STEP_RAW:
        write_file(path, "", 0, text, s->n, s->size);
        break;
    case STEP_FIFO:
        if (mkfifo(path, 0666)) fail("the pipe", path);
        break;
    case STEP_FOLDER:
        if (mkdir(path, 0777)) fail("the folder", path);
        break;
    case STEP_LINK:
        if (symlink(s->text, path)) fail("the link", path);
        break;
    default:
        break;
    }
    free(text);
}

/* Below the working folder; path [size] gets what to open. */
static void make_case(const bad_case *c, char *path, size_t size)
{
    if (mkdir(c->name, 0777)) fail("the folder", c->name);
    for (size_t i = 0; i < sizeof c->steps / sizeof *c->steps && c->steps[i].op; i++)
        make_step(c->name, &c->steps[i]);
    snprintf(path, size, "%s%s%s", c->name, c->open ? "/" : "", c->open ? c->open : "");
}

static int open_it(const char *path, tmb_err *err)
{
    tmb_checkpoint *ckpt = NULL;
    *err = (tmb_err){0};
    tmb_status status = tmb_checkpoint_open(&ckpt, path, err);
    if (!status) {
        for (size_t i = 0; i < ckpt->n_tensors; i++)
            if (tmb_checkpoint_find(ckpt, ckpt->tensors[i].name) != &ckpt->tensors[i])
                fail("a lookup", path);
        tmb_checkpoint_close(ckpt);
    }
    return status;
}

static void run_table(const bad_case *cases)
{
    for (const bad_case *c = cases; c->name; c++) {
        char path[256];
        tmb_err err;
        make_case(c, path, sizeof path);
        int status = open_it(path, &err);
        if (!ok(status == c->status && strcmp(err.message, c->expect) == 0, "%s", c->name))
            printf("# want %d %s\n# have %d %s\n", c->status, c->expect, status, err.message);
    }
}

static void list_table(const bad_case *cases)
{
    for (const bad_case *c = cases; c->name; c++) {
        char path[256];
        make_case(c, path, sizeof path);
        printf("%d %s %s\n", c->status, path, c->expect);
    }
}

static int status_of(const char *text, size_t n, uint64_t data_bytes, tmb_err *err)
{
    tmb_header header;
    char *copy = malloc(n + 1);
    if (!copy) fail("a copy", "a header");
    memcpy(copy, text, n);
    *err = (tmb_err){0};
    tmb_status status = tmb_header_parse(&header, copy, n, data_bytes, "f", err);
    if (!status) tmb_header_free(&header);
    return status;
}

/* Dimensions whose product is 2^64, and whose bits are 2^64, for every dtype. */
static void test_overflow(void)
{
    for (int d = 0; d < TMB_DTYPES; d++) {
        const char *dtype = tmb_dtype_name((tmb_dtype)d);
        char text[256], want[256];
        tmb_err err;
        const char *shapes[] = {"4294967296,4294967296", "18446744073709551615,2",
                                "9223372036854775808"};
        int good = 1;
        for (size_t i = 0; i < 3; i++) {
            int n = snprintf(text, sizeof text,
                             "{\"x\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[0,0]}}",
                             dtype, shapes[i]);
            snprintf(want, sizeof want,
                     "f: byte 10: the shape of tensor \"x\" times %s overflows; fetch or write the "
                     "file again",
                     dtype);
            good &=
                status_of(text, (size_t)n, 0, &err) == TMB_EDATA && strcmp(err.message, want) == 0;
        }
        ok(good, "overflow_%s", dtype);
    }
}

static const char whole[] =
    "{\"__metadata__\":{\"format\":\"pt\"},\"a\\u00e4\":{\"dtype\":\"BF16\",\"shape\":[2,3],"
    "\"data_offsets\":[0,12]},\"b\":{\"data_offsets\":[12,16],\"dtype\":\"F32\",\"shape\":[]}}";

/* Cut after every byte: of the header's text, and of the file on the disk. */
static void test_cut(void)
{
    tmb_err err;
    size_t n = sizeof whole - 1, refused = 0;
    ok(status_of(whole, n, 16, &err) == TMB_OK, "the whole header is taken");
    for (size_t i = 0; i < n; i++)
        refused +=
            status_of(whole, i, 16, &err) == TMB_EDATA && strncmp(err.message, "f: byte ", 8) == 0;
    ok(refused == n, "a header cut at any of its %zu bytes is refused", n);

    char file[512] = {0};
    size_t size = 8 + n + 16;
    file[0] = (char)n;
    memcpy(file + 8, whole, n);
    mkdir("cut", 0777);
    refused = 0;
    for (size_t i = 0; i < size; i++) {
        write_file("cut/" MODEL, "", 0, file, i, 0);
        refused += open_it("cut", &err) == TMB_EDATA && strncmp(err.message, MODEL ": ", 19) == 0;
    }
    ok(refused == size, "a file cut at any of its %zu bytes is refused", size);
    write_file("cut/" MODEL, "", 0, file, size, 0);
    ok(open_it("cut", &err) == TMB_OK, "and taken whole");
}

/* Every byte of the header replaced by every other: refused, or a header that is sound. */
static void test_changed(void)
{
    size_t n = sizeof whole - 1, sound = 0, tried = 0;
    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < 256; c++) {
            tmb_header h;
            tmb_err err;
            char *copy = malloc(n + 1);
            if (!copy) fail("a copy", "a header");
            memcpy(copy, whole, n);
            copy[i] = (char)c;
            tried++;
            if (tmb_header_parse(&h, copy, n, 16, "f", &err)) {
                sound += err.status == TMB_EDATA;
                continue;
            }
            uint64_t end = 0;
            for (size_t k = 0; k < h.n_tensors; k++) {
                if (h.tensors[k].begin != end) end = 99;
                end += h.tensors[k].bytes;
            }
            sound += end == 16 && h.n_tensors <= 2;
            tmb_header_free(&h);
        }
    }
    ok(sound == tried, "of %zu changed headers none is half taken", tried);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int main(int argc, char **argv)
{
    const bad_case *const tables[] = {header_cases, grammar_cases, index_cases, folder_cases};
    if (argc == 3 && strcmp(argv[1], "write") == 0) {
        if (chdir(argv[2])) fail("the cases", argv[2]);
        for (int i = 0; i < 4; i++)
            list_table(tables[i]);
        return 0;
    }
    const char *tmp = getenv("TMPDIR");
    char dir[256];
    snprintf(dir, sizeof dir, "%s/tombac-malformed-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir) || chdir(dir)) fail("the folder", dir);
    for (int i = 0; i < 4; i++)
        run_table(tables[i]);
    test_overflow();
    test_cut();
    test_changed();
    if (chdir("/") || nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS))
        printf("# %s is left\n", dir);
    return done();
}
