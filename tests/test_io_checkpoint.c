#include "config.h"
#include "moe/io/checkpoint.h"
#include "moe/io/files.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char *srcdir;

static void test_fixture(void)
{
    char path[1200];
    tmb_checkpoint *c = NULL;
    tmb_err err = {0};
    snprintf(path, sizeof path, "%s/tests/data/arch/mixtral//", srcdir);
    if (!ok(!tmb_checkpoint_open(&c, path, &err), "mixtral opens %s", err.message)) return;
    ok(c->n_shards == 3 && c->path[strlen(c->path) - 1] == 'l',
       "three shards; no slash at the end of the path");
    ok(strcmp(tmb_json_string(tmb_json_get(c->config, "model_type")), "mixtral") == 0,
       "config.json is read");
    uint64_t bytes = 0;
    int good = 1;
    for (size_t i = 0; i < c->n_tensors; i++) {
        const tmb_tensor *t = &c->tensors[i];
        const tmb_header *h = &c->shards[t->shard].header;
        good &= tmb_checkpoint_find(c, t->name) == t && t >= h->tensors &&
                t < h->tensors + h->n_tensors;
        bytes += t->bytes;
    }
    ok(good && bytes == c->total_bytes, "every tensor is found, in its shard");
    ok(!tmb_checkpoint_find(c, "") && !tmb_checkpoint_find(c, "model") &&
           !tmb_checkpoint_find_n(c, "model\0x", 7),
       "no other is");
    const tmb_tensor *t = tmb_checkpoint_find_n(c, "lm_head.weight and more", 14);
    ok(t && t->dtype == TMB_BF16 && t->rank == 2, "lm_head.weight is BF16 of two dimensions");
    unsigned char *whole = malloc((size_t)t->bytes), part[3] = {0};
    ok(whole && !tmb_checkpoint_read(c, t, 0, whole, (size_t)t->bytes, &err) &&
           !tmb_checkpoint_read(c, t, 5, part, 3, &err) && memcmp(whole + 5, part, 3) == 0,
       "a part is read as it stands in the whole");
    ok(tmb_checkpoint_read(c, t, t->bytes - 2, part, 3, &err) == TMB_EINTERNAL,
       "never past the end of a tensor");
    tmb_checkpoint_advise(c, t, 0, t->bytes, true);
    ok(!tmb_checkpoint_unchanged(c, &err), "nothing has changed");
    free(whole);
    tmb_checkpoint_close(c);
    tmb_checkpoint_close(NULL);
}

/* Write what tmb_header_format() makes of these, with zeros behind it. */
static void write_shard(const char *path, const tmb_tensor *tensors, size_t n)
{
    char *text;
    size_t size;
    uint64_t bytes = 0, begin = 0, predicted = sizeof "{\"__metadata__\":{\"format\":\"pt\"}}" - 1;
    tmb_err err;
    if (tmb_header_format(&text, &size, tensors, n, path, &err)) exit(1);
    for (size_t i = 0; i < n; i++) {
        predicted += tmb_header_entry_bytes(&tensors[i], begin);
        begin += tensors[i].bytes;
        bytes += tensors[i].bytes;
    }
    ok(size == (8 + predicted + 7) / 8 * 8 - 8, "the size of a header is known beforehand");
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(size >> 8 * i);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0 || tmb_file_pwrite(fd, length, 8, 0, path, &err) ||
        tmb_file_pwrite(fd, text, size, 8, path, &err) || ftruncate(fd, (off_t)(8 + size + bytes)))
        exit(1);
    close(fd);
    free(text);
}

static void test_round_trip(void)
{
    static const uint64_t shape[] = {2, 3, 18446744073709551615u};
    static const tmb_tensor tensors[] = {
        {.name = "quote\" back\\slash \xc3\xa4",
         .shape = shape,
         .rank = 2,
         .dtype = TMB_BF16,
         .bytes = 12},
        {.name = "scalar", .dtype = TMB_F32, .bytes = 4},
        {.name = "f4", .shape = shape, .rank = 1, .dtype = TMB_F4, .bytes = 1},
    };
    tmb_checkpoint *c = NULL;
    tmb_err err = {0};
    write_shard("model.safetensors", tensors, 3);
    if (!ok(!tmb_checkpoint_open(&c, ".", &err), "what is written is read %s", err.message)) return;
    int good = c->n_tensors == 3 && c->shards[0].data_begin % 8 == 0;
    for (size_t i = 0; good && i < 3; i++) {
        const tmb_tensor *a = &tensors[i], *b = &c->tensors[i];
        good = strcmp(a->name, b->name) == 0 && a->bytes == b->bytes && a->dtype == b->dtype &&
               a->rank == b->rank &&
               (!a->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
    }
    ok(good, "with the same names, types and shapes");

    int fd = open("model.safetensors", O_WRONLY);
    char byte = 1;
    ok(pwrite(fd, &byte, 1, (off_t)c->shards[0].data_begin) == 1 &&
           tmb_checkpoint_unchanged(c, &err) == TMB_EDATA &&
           !strcmp(err.message, "./model.safetensors: was changed while it was being read; run "
                                "again when nothing writes there"),
       "a byte that was changed is noticed");
    close(fd);
    ok(ftruncate(fd = open("model.safetensors", O_WRONLY), 100) == 0 &&
           tmb_checkpoint_read(c, &c->tensors[1], 0, &byte, 1, &err) == TMB_EIO,
       "a cut file is an error: %s", err.message);
    close(fd);
    tmb_checkpoint_close(c);

    write_shard("new", tensors, 1);
    write_shard("model.safetensors", tensors, 3);
    ok(!tmb_checkpoint_open(&c, ".", &err) && rename("new", "model.safetensors") == 0 &&
           tmb_checkpoint_unchanged(c, &err) == TMB_EDATA,
       "a file that was replaced is noticed");
    tmb_checkpoint_close(c);
    unlink("model.safetensors");
}

/* More shards than the soft limit of open files. */
static void test_many_shards(void)
{
    enum { SHARDS = 80 };
    tmb_checkpoint *c = NULL;
    tmb_err err = {0};
    char name[64], tensor[16], *index = malloc(SHARDS * 128);
    if (!index) exit(1);
    size_t n = (size_t)sprintf(index, "{\"weight_map\":{");
    for (int i = 0; i < SHARDS; i++) {
        snprintf(name, sizeof name, "s-%d.safetensors", i);
        snprintf(tensor, sizeof tensor, "t%d", i);
        n += (size_t)sprintf(index + n, "%s\"%s\":\"%s\"", i ? "," : "", tensor, name);
        tmb_tensor t = {.name = tensor, .dtype = TMB_U8, .bytes = 1};
        char *text;
        size_t size;
        if (tmb_header_format(&text, &size, &t, 1, name, &err)) exit(1);
        char file[256] = {(char)size};
        memcpy(file + 8, text, size);
        if (tmb_file_publish(AT_FDCWD, ".", name, file, 8 + size + 1, &err)) exit(1);
        free(text);
    }
    n += (size_t)sprintf(index + n, "}}");
    if (tmb_file_publish(AT_FDCWD, ".", "model.safetensors.index.json", index, n, &err)) exit(1);
    free(index);
    struct rlimit had, low;
    getrlimit(RLIMIT_NOFILE, &had);
    low = had;
    low.rlim_cur = 32;
    setrlimit(RLIMIT_NOFILE, &low);
    ok(!tmb_checkpoint_open(&c, ".", &err) && c->n_tensors == SHARDS && c->n_shards == SHARDS,
       "the soft limit of open files is raised as needed %s", err.message);
    tmb_checkpoint_close(c);
    low.rlim_cur = low.rlim_max = 32;
    ok(!setrlimit(RLIMIT_NOFILE, &low) && tmb_checkpoint_open(&c, ".", &err) == TMB_ESYSTEM,
       "not beyond the hard one: %s", err.message);
    for (int i = 0; i < SHARDS; i++) {
        snprintf(name, sizeof name, "s-%d.safetensors", i);
        unlink(name);
    }
    unlink("model.safetensors.index.json");
}

int main(void)
{
    const char *tmp = getenv("TMPDIR"), *src = getenv("srcdir");
    char folder[256];
    if (!(srcdir = realpath(src ? src : ".", NULL))) return 1;
    snprintf(folder, sizeof folder, "%s/tombac-ckpt-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    test_fixture();
    test_round_trip();
    test_many_shards();
    ok(chdir("/") == 0 && rmdir(folder) == 0, "nothing is left");
    return done();
}
