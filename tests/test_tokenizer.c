/* The tokenizers of tests/data/tokenizers against the ids and texts that Hugging Face `tokenizers`
 * made with the same files: every case, with and without special tokens, and back to text. */
#include "config.h"
#include "moe/tokens/tokenizer.h"
#include "tests/tap.h"
#include "tests/tokens.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

static int encode_case(tmb_encoder *e, const token_case *c, tmb_err *err)
{
    tmb_ids got = {0};
    int good =
        !tmb_encode(e, c->text, c->text_n, true, "case", &got, err) && same_ids(&got, &c->ids);
    got.n = 0;
    good = good && !tmb_encode(e, c->text, c->text_n, false, "case", &got, err) &&
           same_ids(&got, &c->plain);
    free(got.ids);
    return good;
}

static int decode_case(const tmb_tokenizer *t, const token_case *c, tmb_err *err)
{
    int good = 1;
    for (int skip = 0; skip < 2 && good; skip++) {
        char *text;
        size_t n;
        if (tmb_decode(t, c->ids.ids, c->ids.n, skip, &text, &n, err)) return 0;
        good = skip ? n == c->skip_n && !memcmp(text, c->text_skip, n)
                    : n == c->text_n && !memcmp(text, c->text, n);
        free(text);
    }
    return good;
}

/* All lines of FOLDER/FAMILY/FILE; how many are there in *n. */
static int run_file(const char *family, const char *file, const tmb_tokenizer *t, int decode,
                    int *n)
{
    char path[2048];
    tmb_err err = {0};
    tmb_lines lines;
    token_case c = {0};
    tmb_encoder *e = NULL;
    int bad = 0;
    snprintf(path, sizeof path, "%s/%s/%s", tokenizers_folder(), family, file);
    int fd = open(path, O_RDONLY);
    *n = 0;
    if (fd < 0 || tmb_encoder_open(&e, t, &err)) return 1;
    tmb_lines_open(&lines, fd, path);
    for (;;) {
        char *line;
        size_t length;
        if (tmb_lines_next(&lines, &line, &length, &err) || !line) break;
        ++*n;
        if (!case_parse(&c, line, length, &err) &&
            (decode ? decode_case(t, &c, &err) : encode_case(e, &c, &err)))
            continue;
        if (bad++ < 3) printf("# %s line %d %s\n", file, *n, err.message);
    }
    tmb_lines_close(&lines);
    tmb_encoder_close(e);
    close(fd);
    free(c.ids.ids);
    free(c.plain.ids);
    return bad;
}

static void family(const char *name)
{
    char path[2048];
    tmb_err err = {0};
    tmb_tokenizer *t;
    int n;
    snprintf(path, sizeof path, "%s/%s", tokenizers_folder(), name);
    if (!ok(!tmb_tokenizer_load(&t, path, &err), "%s is read%s%s", name, *err.message ? ": " : "",
            err.message))
        return;
    int bad = run_file(name, "cases.jsonl", t, 0, &n);
    ok(!bad && n > 150, "%s: %s: %d of %d texts differ", name, tmb_tokenizer_about(t), bad, n);
    bad = run_file(name, "decode.jsonl", t, 1, &n);
    ok(!bad && n >= 60, "%s: back to text: %d of %d differ", name, bad, n);
    tmb_tokenizer_close(t);
}

/* Long runs of one thing, which cost some engines quadratic time or their stack. */
static void long_runs(const char *name)
{
    static const char *const units[] = {
        " ",  "a",        "A",   "1",  "\n",          "!", "\xe4\xb8\xad",
        "a ", "\xcc\x81", " \n", "aA", "\xe2\x96\x81"};
    enum { BYTES = 200000 };
    char path[2048], *text = malloc(BYTES);
    tmb_err err = {0};
    tmb_tokenizer *t = NULL;
    tmb_encoder *e = NULL;
    int good = 1;
    snprintf(path, sizeof path, "%s/%s", tokenizers_folder(), name);
    if (!text || tmb_tokenizer_load(&t, path, &err) || tmb_encoder_open(&e, t, &err)) good = 0;
    for (size_t u = 0; u < sizeof units / sizeof *units && good; u++) {
        tmb_ids ids = {0};
        size_t step = strlen(units[u]), n = 0, back;
        char *again;
        for (; n + step <= BYTES; n += step)
            memcpy(text + n, units[u], step);
        good = !tmb_encode(e, text, n, false, "run", &ids, &err) && ids.n > 0 &&
               !tmb_decode(t, ids.ids, ids.n, false, &again, &back, &err);
        if (good) free(again);
        free(ids.ids);
    }
    ok(good, "%s: runs of 200,000 bytes of 12 kinds %s", name, err.message);
    free(text);
    tmb_encoder_close(e);
    tmb_tokenizer_close(t);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(void)
{
    char *names[64];
    size_t n = 0;
    DIR *dir = opendir(tokenizers_folder());
    for (struct dirent *d; dir && n < 64 && (d = readdir(dir));)
        if (d->d_name[0] != '.' && !strchr(d->d_name, '.')) names[n++] = strdup(d->d_name);
    if (dir) closedir(dir);
    ok(n >= 18, "%zu families are there", n);
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        family(names[i]);
        free(names[i]);
    }
    long_runs("kimi_k2");
    long_runs("o200k");
    long_runs("deepseek_v3");
    long_runs("mixtral");
    long_runs("olmoe");
    return done();
}
