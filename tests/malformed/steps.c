/* steps.c - the steps that make the folder of a case: see README.md beside this file. */
#include "config.h"
#include "tests/malformed/steps.h"

#include "tests/ckpt_edit.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/socket.h>
#include <sys/un.h>

struct folder {
    edit e;
    bool dirty;
    char shard[256]; /* the first tensor of the second shard; "" is one file */
};

size_t unescape(char *text)
{
    char *out = text, *p = text;
    while (*p) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        char hex[3] = {p[1] == 'x' ? p[2] : 0, p[1] == 'x' && p[2] ? p[3] : 0, 0};
        *out++ = p[1] == 'n'   ? '\n'
                 : p[1] == 't' ? '\t'
                 : p[1] == 's' ? ' '
                 : p[1] == 'x' ? (char)strtol(hex, NULL, 16)
                               : p[1];
        p += p[1] == 'x' ? 4 : 2;
    }
    *out = 0;
    return (size_t)(out - text);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void remove_tree(const char *name)
{
    nftw(name, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

folder *folder_new(void)
{
    return calloc(1, sizeof(folder));
}

void folder_free(folder *f)
{
    edit_free(&f->e);
    free(f);
}

/* ---- tensors -----------------------------------------------------------------------------------
 */

/* Values that every check takes: small weights, scales near 0.01, codes that are numbers. */
static void fill(edit_tensor *t)
{
    for (size_t i = 0; i < t->bytes; i++) {
        unsigned noise = (unsigned)(i * 2654435761u >> 7);
        t->data[i] = t->dtype == TMB_F8_E4M3 ? (uint8_t)((noise & 0x80) | (0x20 + noise % 0x40))
                     : t->dtype == TMB_U8    ? (uint8_t)(120 + noise % 8)
                                             : (uint8_t)noise;
    }
    for (size_t i = 0; t->dtype == TMB_BF16 && i < t->bytes / 2; i++) {
        uint16_t v = (uint16_t)(0x3c00 | (t->data[2 * i] & 0x80) << 8 | (t->data[2 * i] & 0x7f));
        memcpy(t->data + 2 * i, &v, 2);
    }
    for (size_t i = 0; t->dtype == TMB_I64 && i < t->bytes / 8; i++)
        memcpy(t->data + 8 * i, &(int64_t){64}, 8); /* weight_shape of bases/int4 */
    for (size_t i = 0; t->dtype == TMB_F32 && i < t->bytes / 4; i++) {
        float v = 0.01f * (float)(1 + i % 3);
        memcpy(t->data + 4 * i, &v, 4);
    }
}

/* "NAME DTYPE d,d" */
static bool add_tensor(folder *f, char *line)
{
    char name[4500], type[32], dims[64] = "";
    uint64_t d[4] = {0};
    tmb_dtype dtype;
    int rank = 0;
    if (sscanf(line, "%4499s %31s %63s", name, type, dims) < 2) return false;
    (void)unescape(name);
    if (!tmb_dtype_find(type, strlen(type), &dtype)) return false;
    for (char *at = dims; *at && rank < 4; rank++) {
        d[rank] = strtoull(at, &at, 10);
        if (*at == ',') at++;
    }
    if (edit_has(&f->e, name)) edit_drop(&f->e, name);
    edit_tensor *t = edit_add(&f->e, name, dtype, rank < 3 ? rank : 3, d[0], d[1], d[2]);
    if (rank == 4) {
        t->rank = 4;
        t->shape[3] = d[3];
        t->bytes *= d[3];
        t->data = realloc(t->data, t->bytes + 1);
    }
    fill(t);
    return true;
}

/* A file of bases/: config.json, "---", tensors. */
static bool load_base(folder *f, const char *name)
{
    char path[4096], *text = NULL;
    const char *srcdir = getenv("srcdir");
    size_t n;
    tmb_err err;
    snprintf(path, sizeof path, "%s/tests/malformed/bases/%s", srcdir ? srcdir : ".", name);
    if (tmb_file_load(&text, &n, AT_FDCWD, path, 1 << 20, &err)) return false;
    char *cut = strstr(text, "\n---\n"), *save = NULL;
    bool good = cut && !tmb_json_parse(&f->e.config, text, (size_t)(cut - text), name, true, &err);
    for (char *line = good ? strtok_r(cut + 5, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        good = good && add_tensor(f, line);
    free(text);
    return good;
}

/* "NAME OFFSET HEX": bytes of a tensor's data */
static bool patch(folder *f, char *rest)
{
    char name[256], hex[256];
    unsigned offset;
    if (sscanf(rest, "%255s %u %255s", name, &offset, hex) != 3 || !edit_has(&f->e, name))
        return false;
    edit_tensor *t = edit_find(&f->e, name);
    for (size_t i = 0; hex[2 * i] && hex[2 * i + 1]; i++) {
        char byte[3] = {hex[2 * i], hex[2 * i + 1], 0};
        if (offset + i >= t->bytes) return false;
        t->data[offset + i] = (uint8_t)strtol(byte, NULL, 16);
    }
    return true;
}

/* "PATH JSON": in config.json; PATH is dotted, and its objects are made. */
static bool set_key(folder *f, char *rest, bool remove)
{
    char *value = strchr(rest, ' '), *save = NULL;
    tmb_json *at = f->e.config, *json = NULL;
    tmb_err err;
    if (!at || (!value && !remove)) return false;
    if (value) *value++ = 0;
    if (!remove && tmb_json_parse(&json, value, strlen(value), "a case", true, &err)) return false;
    char *key = strtok_r(rest, ".", &save);
    for (char *next; key && (next = strtok_r(NULL, ".", &save)); key = next) {
        if (!tmb_json_is_object(tmb_json_get(at, key)))
            tmb_json_set(at, key, tmb_json_new_object());
        at = (tmb_json *)tmb_json_get(at, key);
    }
    if (remove)
        tmb_json_remove(at, key);
    else
        tmb_json_set(at, key, json);
    return true;
}

static bool think(folder *f, const char *word, char *rest, bool *known)
{
    char a[4500], b[4500];
    bool before = f->dirty;
    *known = f->dirty = true;
    if (!strcmp(word, "base")) return load_base(f, rest);
    if (!strcmp(word, "set")) return set_key(f, rest, false);
    if (!strcmp(word, "unset")) return set_key(f, rest, true);
    if (!strcmp(word, "tensor")) return add_tensor(f, rest);
    if (!strcmp(word, "bytes")) return patch(f, rest);
    if (!strcmp(word, "drop")) {
        size_t had = f->e.n;
        edit_drop_all(&f->e, rest);
        return f->e.n < had;
    }
    if (!strcmp(word, "rename")) {
        if (sscanf(rest, "%4499s %4499s", a, b) != 2 || !edit_has(&f->e, a)) return false;
        (void)unescape(b);
        edit_tensor *t = edit_find(&f->e, a);
        free(t->name);
        t->name = strdup(b);
        return true;
    }
    if (!strcmp(word, "split")) {
        snprintf(f->shard, sizeof f->shard, "%s", rest);
        return edit_has(&f->e, rest);
    }
    f->dirty = before;
    *known = false;
    return false;
}

/* Two shards and their index. */
static bool write_split(folder *f)
{
    size_t at = 0, all = f->e.n;
    tmb_json *map = tmb_json_new_object(), *index = tmb_json_new_object();
    while (at < all && strcmp(f->e.t[at].name, f->shard) != 0)
        at++;
    bool good = true;
    for (int k = 0; k < 2 && good; k++) {
        static edit half;
        char name[64], path[80];
        snprintf(name, sizeof name, "model-0000%d-of-00002.safetensors", k + 1);
        half.n = k ? all - at : at;
        memcpy(half.t, f->e.t + (k ? at : 0), half.n * sizeof *half.t);
        half.config = k ? f->e.config : NULL;
        half.hf = NULL;
        for (size_t i = 0; i < half.n; i++)
            tmb_json_set(map, half.t[i].name, tmb_json_new_string(name));
        snprintf(path, sizeof path, "c/%s", name);
        good = edit_write(&half, "c") && rename("c/model.safetensors", path) == 0;
    }
    tmb_json_set(index, "metadata", tmb_json_new_object());
    tmb_json_set(index, "weight_map", map);
    good = good && edit_write_json("c", "model.safetensors.index.json", index);
    tmb_json_free(index);
    return good;
}

bool folder_write(folder *f, const char **why)
{
    *why = "cannot write c";
    if (!f->dirty) return true;
    f->dirty = false;
    mkdir("c", 0777);
    return *f->shard ? write_split(f) : edit_write(&f->e, "c");
}

/* ---- files
 * ---------------------------------------------------------------------------------------
 */

static bool put(const char *path, const char *text, size_t n)
{
    FILE *file = fopen(path, "wb");
    bool good = file && fwrite(text, 1, n, file) == n;
    return file && !fclose(file) && good;
}

/* Records, one a line, each behind the check that a journal has (moe/quantize/journal.h). */
static bool sign(const char *path, char *text)
{
    char hex[TMB_SHA256_HEX] = "", both[4096], *save = NULL;
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        int n = snprintf(both, sizeof both, "%.16s%s", hex, line);
        if (tmb_sha256(both, (size_t)n, hex, NULL)) return false;
        fprintf(file, "%.16s %s\n", hex, line);
    }
    return fclose(file) == 0;
}

/* "FILE COUNT HEAD UNIT TAIL", each escaped; %d in UNIT is its number. */
static bool repeat(char *rest)
{
    char path[256], head[256], unit[256], tail[256];
    unsigned long n;
    if (sscanf(rest, "%255s %lu %255s %255s %255s", path, &n, head, unit, tail) != 5) return false;
    size_t nh = unescape(head), nu = unescape(unit), nt = unescape(tail);
    char *number = strstr(unit, "%d");
    FILE *file = fopen(path, "wb");
    if (!file) return false;
    fwrite(head, 1, nh, file);
    for (unsigned long i = 0; i < n; i++) {
        if (i && number) fputc(',', file);
        if (number)
            fprintf(file, "%.*s%lu%s", (int)(number - unit), unit, i, number + 2);
        else
            fwrite(unit, 1, nu, file);
    }
    fwrite(tail, 1, nt, file);
    return fclose(file) == 0;
}

/* "FILE OFFSET": one bit; from the end when negative. */
static bool flip(char *rest)
{
    char path[256];
    long at;
    if (sscanf(rest, "%255s %ld", path, &at) != 2) return false;
    FILE *file = fopen(path, "r+b");
    if (!file || fseek(file, at, at < 0 ? SEEK_END : SEEK_SET)) return false;
    int c = fgetc(file);
    bool good = c >= 0 && !fseek(file, -1, SEEK_CUR) && fputc(c ^ 1, file) >= 0;
    return !fclose(file) && good;
}

static bool copy(const char *from, const char *to)
{
    char *text = NULL;
    size_t n;
    bool good = !tmb_file_load(&text, &n, AT_FDCWD, from, 64 << 20, NULL) && put(to, text, n);
    free(text);
    return good;
}

/* An open end that waits for whoever opens the other. */
static bool make_socket(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    bool good = fd >= 0 && !bind(fd, (struct sockaddr *)&at, sizeof at);
    if (fd >= 0) close(fd);
    return good;
}

static bool resize(const char *path, long long size, bool less)
{
    struct stat st = {0};
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    bool good = fd >= 0 && !fstat(fd, &st) &&
                !ftruncate(fd, (off_t)(less ? (long long)st.st_size - size : size));
    if (fd >= 0) close(fd);
    return good;
}

static bool act(const char *word, char *rest)
{
    char *b = strchr(rest, ' ');
    if (!strcmp(word, "repeat")) return repeat(rest);
    if (!strcmp(word, "flip")) return flip(rest);
    if (b) *b++ = 0;
    (void)unescape(rest);
    if (!strcmp(word, "put")) {
        size_t n = b ? unescape(b) : 0;
        return put(rest, b ? b : "", n);
    }
    if (!strcmp(word, "sign") && b) {
        (void)unescape(b);
        return sign(rest, b);
    }
    if (!strcmp(word, "fifo")) return !mkfifo(rest, 0666);
    if (!strcmp(word, "dir")) return !mkdir(rest, 0777);
    if (!strcmp(word, "socket")) return make_socket(rest);
    if (!strcmp(word, "rm")) {
        remove_tree(rest);
        return true;
    }
    if (!b) return false;
    if (!strcmp(word, "hole")) return resize(rest, atoll(b), false);
    if (!strcmp(word, "cut")) return resize(rest, atoll(b), true);
    if (!strcmp(word, "link")) return !symlink(b, rest);
    if (!strcmp(word, "move")) return !rename(rest, b);
    if (!strcmp(word, "copy")) return copy(rest, b);
    if (!strcmp(word, "mode")) return !chmod(rest, (mode_t)strtol(b, NULL, 8));
    return false;
}

bool folder_step(folder *f, const char *word, char *rest, const char **why)
{
    bool known, good = think(f, word, rest, &known);
    if (!known) good = folder_write(f, why) && act(word, rest);
    *why = "the step cannot be done";
    return good;
}
