/* Sequences from sources: every kind of file, how documents are cut, how they are sampled, and what
 * is refused with which message. */
#include "config.h"
#include "moe/io/safetensors.h"
#include "moe/tokens/data.h"
#include "moe/tokens/random.h"
#include "tests/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static tmb_err err;
static char folder[] = "/tmp/tombac-data-XXXXXX";

static void put(const char *name, const void *data, size_t n)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

/* A .npy of elements of `bytes` bytes, all of them i * step. */
static void put_npy(const char *name, const char *type, const char *shape, size_t count, int bytes,
                    int step)
{
    char head[128];
    size_t n =
        (size_t)snprintf(head + 10, sizeof head - 10,
                         "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", type, shape);
    memset(head + 10 + n, ' ', sizeof head - 10 - n);
    memcpy(head, "\x93NUMPY\1\0", 8);
    head[8] = sizeof head - 10;
    head[9] = 0;
    uint8_t *data = calloc(count, (size_t)bytes + 128);
    if (!data) abort();
    memcpy(data, head, sizeof head);
    for (size_t i = 0; i < count; i++)
        for (int b = 0; b < bytes && b < 4; b++)
            data[128 + i * (size_t)bytes + (size_t)b] = (uint8_t)((int64_t)i * step >> 8 * b);
    put(name, data, 128 + count * (size_t)bytes);
    free(data);
}

typedef struct part {
    const char *name;
    tmb_dtype dtype;
    int rank;
    uint64_t shape[2];
    const void *data;
} part;

static void put_safetensors(const char *name, const part *parts, int n)
{
    tmb_tensor t[4];
    uint64_t at = 0, bytes[4];
    char *text;
    size_t head;
    for (int i = 0; i < n; i++) {
        bytes[i] = tmb_dtype_bits(parts[i].dtype) / 8u * parts[i].shape[0] *
                   (parts[i].rank == 2 ? parts[i].shape[1] : 1);
        t[i] = (tmb_tensor){.name = parts[i].name,
                            .shape = parts[i].shape,
                            .begin = at,
                            .bytes = bytes[i],
                            .dtype = (uint8_t)parts[i].dtype,
                            .rank = (uint8_t)parts[i].rank};
        at += bytes[i];
    }
    if (tmb_header_format(&text, &head, t, (size_t)n, name, &err)) abort();
    uint8_t *all = malloc(8 + head + at);
    if (!all) abort();
    for (int b = 0; b < 8; b++)
        all[b] = (uint8_t)((uint64_t)head >> 8 * b);
    memcpy(all + 8, text, head);
    for (int i = 0; i < n; i++)
        memcpy(all + 8 + head + t[i].begin, parts[i].data, bytes[i]);
    put(name, all, 8 + head + at);
    free(all);
    free(text);
}

/* --- opening
 * -------------------------------------------------------------------------------------- */

/* Sources as on the command line, with "@" for the folder, a blank between. */
static tmb_data *open_with(const char *sources, tmb_data_options o)
{
    static tmb_arena arena;
    tmb_source list[8];
    char words[1024], text[512];
    tmb_data *d = NULL;
    size_t n = 0;
    snprintf(words, sizeof words, "%s", sources);
    memset(&err, 0, sizeof err);
    for (char *save = NULL, *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char *at = strchr(w, '@');
        snprintf(text, sizeof text, "%.*s%s/%s", at ? (int)(at - w) : 0, w, folder,
                 at ? at + 1 : w);
        if (tmb_source_parse(&list[n++], text, &arena, &err)) return NULL;
    }
    o.sources = list;
    o.n_sources = n;
    if (tmb_data_open(&d, &o, &err)) d = NULL;
    tmb_arena_free(&arena);
    memset(&arena, 0, sizeof arena);
    return d;
}

static const char *show(const tmb_data *d)
{
    static char text[4096];
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; d && i < d->n_sequences && at < sizeof text; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%u:", i ? " " : "",
                               d->sequences[i].source);
        for (uint32_t k = 0; k < d->sequences[i].n && at < sizeof text; k++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", k ? "," : "",
                                   d->sequences[i].ids[k]);
    }
    return text;
}

static void gives(const char *sources, tmb_data_options o, const char *want)
{
    tmb_data *d = open_with(sources, o);
    int good = d && strcmp(show(d), want) == 0;
    ok(good, "%s gives %.60s", sources, want);
    if (!good) printf("# got %s\n# %s\n", show(d), err.message);
    tmb_data_close(d);
}

static void refuses(const char *sources, tmb_data_options o, int status, const char *want)
{
    tmb_data *d = open_with(sources, o);
    const char *got = err.message;
    size_t n = strlen(folder);
    char line[2048];
    size_t at = 0;
    for (const char *p = got; *p && at + 1 < sizeof line; p++) { /* the folder is "@" */
        if (strncmp(p, folder, n) == 0 && p[n] == '/') {
            line[at++] = '@';
            p += n;
        } else {
            line[at++] = *p;
        }
    }
    line[at] = 0;
    int good = !d && (int)err.status == status && strcmp(line, want) == 0;
    ok(good, "%s is refused: %.90s", sources, want);
    if (!good) printf("# got %d %s\n", (int)err.status, line);
    tmb_data_close(d);
}

/* --- kinds of files
 * --------------------------------------------------------------------------------- */

static void test_kinds(void)
{
    static const uint16_t u16[] = {1, 2, 3, 4, 5, 6, 7};
    static const int64_t ids[] = {1, 2, 3, 4, 5, 6}, mask[] = {0, 1, 1, 1, 1, 0},
                         lengths[] = {2, 3};
    static const part with_mask[] = {{"attention_mask", TMB_I64, 2, {2, 3}, mask},
                                     {"input_ids", TMB_I64, 2, {2, 3}, ids}};
    static const part with_lengths[] = {{"input_ids", TMB_I64, 2, {2, 3}, ids},
                                        {"lengths", TMB_I64, 1, {2}, lengths}};
    put_text("a.jsonl", "{\"input_ids\":[1,2,3],\"source\":\"x\"}\n\n{\"input_ids\": [ 4 , 5 ]}\n"
                        "{\"text\":\"no\",\"input_ids\":[6]}");
    put("b.bin", u16, sizeof u16);
    put_npy("c.npy", "<i4", "(2, 3)", 6, 4, 10);
    put_npy("d.npy", "<u2", "(4,)", 4, 2, 300);
    put_npy("e.npy", "|u1", "(1, 3)", 3, 1, 7);
    put_safetensors("f.safetensors", with_mask, 2);
    put_safetensors("g.safetensors", with_lengths, 2);
    put_safetensors("h.safetensors", with_lengths, 1);

    const tmb_data_options whole = {.fit = TMB_FIT_WHOLE}, pad = {.fit = TMB_FIT_PAD, .length = 2},
                           pack = {.fit = TMB_FIT_PACK, .length = 2};
    gives("a.jsonl", whole, "0:1,2,3 0:4,5 0:6");
    gives("a.jsonl", (tmb_data_options){.length = 2}, "0:1,2 0:4,5 0:6");
    gives("a.jsonl", pad, "0:1,2 0:3 0:4,5 0:6");
    gives("a.jsonl", (tmb_data_options){.fit = TMB_FIT_PAD, .length = 2, .shortest = 2},
          "0:1,2 0:4,5");
    gives("a.jsonl", pack, "0:1,2 0:3,4 0:5,6");
    gives("a.jsonl", (tmb_data_options){.fit = TMB_FIT_PACK, .length = 4}, "0:1,2,3,4");
    gives("b.bin", whole, "0:1,2,3,4,5,6,7");
    gives("b.bin", pad, "0:1,2 0:3,4 0:5,6 0:7");
    gives("c.npy", whole, "0:0,10,20 0:30,40,50");
    gives("c.npy", pack, "0:0,10 0:20,30 0:40,50");
    gives("d.npy", whole, "0:0,300,600,900");
    gives("e.npy", whole, "0:0,7,14");
    gives("f.safetensors", whole, "0:2,3 0:4,5");
    gives("g.safetensors", whole, "0:1,2 0:4,5,6");
    gives("h.safetensors", pad, "0:1,2 0:3 0:4,5 0:6");
    gives("x=@c.npy:2 y=@d.npy", whole, "0:0,10,20 0:30,40,50 1:0,300,600,900");

    tmb_data *d = open_with("c.npy d.npy", whole);
    int32_t block[12];
    uint8_t padding[12];
    if (!ok(d && d->longest == 4 && d->tokens == 10 && d->n_sequences == 3, "the counts")) return;
    tmb_data_block(d, 1, 2, 4, -7, block, padding);
    ok(block[2] == 50 && block[3] == -7 && block[7] == 900 && padding[2] == 1 && padding[3] == 0 &&
           padding[7] == 1,
       "a block is padded, and its mask says where");
    ok(strcmp(d->sources[0].name, "c") == 0 && d->sources[1].tokens == 4, "the sources are told");
    tmb_data_close(d);
}

/* --- texts
 * -------------------------------------------------------------------------------------------- */

static void test_texts(void)
{
    char tokenizer[1024], bytes[1024];
    const char *srcdir = getenv("srcdir");
    snprintf(tokenizer, sizeof tokenizer, "%s/tests/data/tokenizers/llama3", srcdir ? srcdir : ".");
    snprintf(bytes, sizeof bytes, "%s/tests/data/tinymoe/a/tokenizer.json", srcdir ? srcdir : ".");
    put_text("t.txt", "AB\nC");
    put_text("t.jsonl", "{\"text\":\"A\\u0000B\"}\n{\"input_ids\":[9]}\n{\"text\":\"\"}\n");
    put_text("bad.txt", "A\xff");
    put_text("bad.jsonl", "{\"text\":\"A\"}\n{\"text\":7}\n");
    put_text("none.jsonl", "{\"texts\":\"A\"}\n");
    put_text("twice.jsonl", "{\"text\":\"A\",\"text\":\"B\"}\n");
    put_text("more.jsonl", "{\"text\":\"A\"} x\n");
    tmb_data_options o = {.tokenizer = bytes, .vocab = 272};
    gives("t.txt", o, "0:65,66,10,67");
    gives("t.jsonl", o, "0:65,0,66 0:9");
    tmb_data *d = open_with("t.txt", (tmb_data_options){.tokenizer = tokenizer});
    ok(d && d->sequences[0].ids[0] == 879 && strlen(d->tokenizer_sha256) == 64,
       "a text begins with the template's BOS, and the tokenizer is told by its digest");
    tmb_data_close(d);
    d = open_with("t.txt", (tmb_data_options){.tokenizer = tokenizer, .vocab = 2000});
    ok(d && d->n_notes == 1 &&
           !strcmp(d->notes[0],
                   "the tokenizer has 888 ids and the embedding 2000 rows; make sure that "
                   "it is the model's own"),
       "a tokenizer that is much smaller than the embedding is pointed out");
    tmb_data_close(d);
    d = open_with("t.txt", (tmb_data_options){.tokenizer = tokenizer, .no_special = true});
    ok(d && d->sequences[0].ids[0] != 879, "and not when it is not wanted");
    tmb_data_close(d);

    refuses("t.txt", (tmb_data_options){0}, 65,
            "@t.txt: a text, and there is no tokenizer; give token ids (input_ids) or a checkpoint "
            "with tokenizer.json");
    refuses("bad.txt", o, 65, "@bad.txt: byte 1 (0xff) is not UTF-8; save the text as UTF-8");
    refuses("bad.jsonl", o, 65,
            "@bad.jsonl: line 2: byte 8: expected a text in double quotes, found '7'; a line is "
            "{\"text\": \"...\"} or {\"input_ids\": [...]}");
    refuses(
        "none.jsonl", o, 65,
        "@none.jsonl: line 1: byte 0: neither text nor input_ids; a line is {\"text\": \"...\"} or "
        "{\"input_ids\": [...]}");
    refuses("twice.jsonl", o, 65,
            "@twice.jsonl: line 1: byte 13: a key stands twice; a line is {\"text\": \"...\"} or "
            "{\"input_ids\": [...]}");
    refuses(
        "more.jsonl", o, 65,
        "@more.jsonl: line 1: byte 13: expected nothing after the closing '}', found 'x'; a line "
        "is {\"text\": \"...\"} or {\"input_ids\": [...]}");
    snprintf(tokenizer, sizeof tokenizer, "%s/tests/data/tokenizers/gpt2/tokenizer.json",
             srcdir ? srcdir : ".");
    d = open_with("t.txt", (tmb_data_options){.tokenizer = tokenizer, .vocab = 272, .model = "M"});
    ok(!d &&
           strstr(err.message, "the tokenizer has 876 ids, and the embedding of M has 272 rows: it "
                               "is of another model; give the model's own"),
       "a tokenizer of another model: %s", err.message);
}

/* --- sampling
 * ------------------------------------------------------------------------------------------ */

static void test_random(void)
{
    tmb_random r = {{1, 2, 3, 4}};
    uint64_t first = tmb_random_next(&r), second = tmb_random_next(&r);
    ok(first == 11520 && second == 0, "xoshiro256** from 1, 2, 3, 4 begins 11520, 0");
    uint64_t counts[3] = {0};
    for (int i = 0; i < 30000; i++)
        counts[tmb_random_below(&r, 3)]++;
    ok(counts[0] > 9600 && counts[1] > 9600 && counts[2] > 9600, "below 3: %u %u %u",
       (unsigned)counts[0], (unsigned)counts[1], (unsigned)counts[2]);
}

static void make_sources(void)
{
    uint16_t ids[4000];
    char text[8000];
    size_t at = 0;
    for (int i = 0; i < 4000; i++)
        ids[i] = (uint16_t)i;
    put("s.bin", ids, sizeof ids);
    for (int i = 0; i < 300; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "{\"input_ids\":[%d,%d]}\n",
                               5000 + 2 * i, 5001 + 2 * i);
    put("s.jsonl", text, at);
}

static int all_different(const tmb_data *d)
{
    for (size_t i = 0; i < d->n_sequences; i++)
        for (size_t j = 0; j < i; j++)
            if (d->sequences[i].ids[0] == d->sequences[j].ids[0]) return 0;
    return 1;
}

static void test_sampling(void)
{
    tmb_data_options o = {.fit = TMB_FIT_PACK, .length = 10, .samples = 40, .seed = 3};
    make_sources();
    tmb_data *a = open_with("a=@s.bin:3 b=@s.jsonl", o), *b = open_with("a=@s.bin:3 b=@s.jsonl", o);
    if (!ok(a && b && a->n_sequences == 40, "40 sequences %s", err.message)) return;
    ok(strcmp(a->sha256, b->sha256) == 0, "the same twice");
    ok(a->sources[0].sequences == 30 && a->sources[1].sequences == 10, "by weight");
    ok(all_different(a), "none twice");
    int good = 1, late = 0;
    for (size_t i = 0, from_a = 0; i < 40; i++) {
        const tmb_sequence *s = &a->sequences[i];
        from_a += s->source == 0;
        for (uint32_t k = 1; k < s->n; k++) /* each is a piece of its source */
            good &= s->source ? s->ids[k] >= 5000
                              : s->ids[k] == s->ids[0] + (int)k && s->ids[0] % 10 == 0;
        late += s->source == 0 && s->ids[0] >= 2000;
        double wanted = 0.75 * (double)(i + 1);
        good &= (double)from_a > wanted - 1 && (double)from_a < wanted + 1;
    }
    ok(good, "every prefix is mixed by weight, and sequences are pieces of documents");
    ok(late > 7 && late < 23, "a long document gives pieces of its whole length: %d of 30 late",
       late);
    tmb_data_close(b);
    o.seed = 4;
    b = open_with("a=@s.bin:3 b=@s.jsonl", o);
    ok(b && strcmp(a->sha256, b->sha256) != 0, "another seed, another choice");
    tmb_data_close(b);
    o.samples = 1000;
    b = open_with("a=@s.bin:3 b=@s.jsonl", o);
    ok(b && b->n_sequences == 460 && b->n_notes == 2 && all_different(b),
       "where there are fewer, all are taken: %s", b ? b->notes[0] : err.message);
    tmb_data_close(a);
    tmb_data_close(b);
    a = open_with("s.jsonl", (tmb_data_options){.samples = 5, .fit = TMB_FIT_WHOLE, .seed = 9});
    ok(a && a->n_sequences == 5 && a->sequences[0].n == 2 && all_different(a), "whole documents");
    tmb_data_close(a);
}

/* --- what is refused
 * ------------------------------------------------------------------------------------- */

static void test_refused(void)
{
    static const float real[2] = {1, 2};
    static const int64_t ids[] = {1, 2, 3, 4}, hole[] = {1, 0, 1, 1};
    const part floats[] = {{"input_ids", TMB_F32, 1, {2, 0}, real}},
               other[] = {{"ids", TMB_I64, 1, {2, 0}, ids}},
               holes[] = {{"attention_mask", TMB_I64, 2, {1, 4}, hole},
                          {"input_ids", TMB_I64, 2, {1, 4}, ids}},
               odd[] = {{"attention_mask", TMB_I64, 2, {1, 2}, hole},
                        {"input_ids", TMB_I64, 2, {1, 4}, ids}},
               lengths[] = {{"input_ids", TMB_I64, 2, {2, 2}, ids},
                            {"lengths", TMB_I64, 1, {2, 0}, ids + 2}};
    const tmb_data_options o = {.vocab = 100, .model = "the tiny model"};
    put_text("empty.txt", "");
    put_text("blank.jsonl", "\n \n");
    put_text("no-ids.jsonl", "{\"input_ids\":[]}\n");
    put_text("big.jsonl", "{\"input_ids\":[5]}\n{\"input_ids\":[1,100]}\n");
    put_text("negative.jsonl", "{\"input_ids\":[-1]}\n");
    put_text("x.csv", "1,2");
    put_text("odd.bin", "abc");
    put_text("n.npy", "0123456789abcdef");
    put_npy("minus.npy", "<i4", "(2,)", 2, 4, -1);
    put_npy("float.npy", "<f4", "(2,)", 2, 4, 1);
    put_npy("long.npy", "<i4", "(20, 3)", 6, 4, 1);
    put_npy("cube.npy", "<i4", "(1, 2, 3)", 6, 4, 1);
    put_safetensors("floats.safetensors", floats, 1);
    put_safetensors("other.safetensors", other, 1);
    put_safetensors("holes.safetensors", holes, 2);
    put_safetensors("odd.safetensors", odd, 2);
    put_safetensors("lengths.safetensors", lengths, 2);

    refuses("gone.jsonl", o, 66, "@gone.jsonl: cannot open: No such file or directory");
    refuses("x.csv", o, 64,
            "@x.csv: not a file of texts or ids; give .jsonl, .txt, .npy, .bin or .safetensors");
    refuses("empty.txt", o, 65, "@empty.txt: empty; give a file with data");
    refuses("blank.jsonl", o, 65, "@blank.jsonl: no document; give a file with data");
    refuses("no-ids.jsonl", o, 65,
            "@no-ids.jsonl: no sequence of 1 tokens or more in 1 documents; give longer texts");
    refuses(
        "big.jsonl", o, 65,
        "@big.jsonl: document 2, token 2: id 100 is not one of the 100 of the tiny model; the ids "
        "are of another vocabulary");
    refuses(
        "negative.jsonl", o, 65,
        "@negative.jsonl: line 1: byte 14: expected a token id, found '-'; a line is {\"text\": "
        "\"...\"} or {\"input_ids\": [...]}");
    refuses(
        "big.jsonl", (tmb_data_options){.fit = TMB_FIT_PACK, .length = 16}, 65,
        "@big.jsonl: too short: 3 tokens in all, and a sequence has 16; lower the length or give "
        "more text");
    refuses("odd.bin", o, 65,
            "@odd.bin: 3 bytes are no whole number of uint16; say the other --ids-type");
    refuses("n.npy", o, 65,
            "@n.npy: no .npy file; save it with numpy.save as integers [n] or [n, length]");
    refuses(
        "minus.npy", o, 65,
        "@minus.npy: document 1, token 2: id -1 is not one of the 100 of the tiny model; the ids "
        "are of another vocabulary");
    refuses("float.npy", o, 65,
            "@float.npy: elements that are no little-endian integers; save it with numpy.save as "
            "integers [n] or [n, length]");
    refuses("long.npy", o, 65,
            "@long.npy: 20 rows of 3 ids do not fit into 152 bytes; fetch it again");
    refuses(
        "cube.npy", o, 65,
        "@cube.npy: an array of more than two dimensions; save it with numpy.save as integers [n] "
        "or [n, length]");
    refuses("floats.safetensors", o, 65, "@floats.safetensors: input_ids is F32; give integers");
    refuses("other.safetensors", o, 65,
            "@other.safetensors: no tensor input_ids; give one, integers [n, length]");
    refuses(
        "holes.safetensors", o, 65,
        "@holes.safetensors: attention_mask, row 1: not one run of ones; padding stands at either "
        "end alone");
    refuses(
        "odd.safetensors", o, 65,
        "@odd.safetensors: attention_mask does not fit to input_ids; give integers [n, length]");
    refuses("lengths.safetensors", o, 65,
            "@lengths.safetensors: lengths, row 1: 3 is not in 0 to 2; correct it");
    refuses("big.jsonl big.jsonl", o, 64,
            "two sources are called 'big'; name them: NAME=@big.jsonl");
    refuses("", o, 64, "no data; give --data FILE, or source.NAME = FILE under [calibration]");
    refuses("big.jsonl", (tmb_data_options){.fit = TMB_FIT_PACK}, 64,
            "no length for the sequences; give one");
    refuses("big.jsonl", (tmb_data_options){.samples = 1u << 24, .length = 2048}, 64,
            "16777216 sequences of 2048 tokens are over 268435456; ask for fewer or shorter ones");
    refuses(
        "a=@s.bin:1000 b=@s.jsonl", (tmb_data_options){.samples = 2, .length = 2}, 64,
        "source 'b': its weight gives it none of 2 samples; ask for more samples, raise the weight "
        "or leave it out");
}

static void source_is(const char *text, const char *name, const char *path, double weight)
{
    tmb_arena arena = {0};
    tmb_source s = {0};
    tmb_status status = tmb_source_parse(&s, text, &arena, &err);
    int good = name
                   ? !status && !strcmp(s.name, name) && !strcmp(s.path, path) && s.weight == weight
                   : status == TMB_EUSAGE;
    ok(good, "--data %s", text);
    if (!good)
        printf("# %s %s %g %s\n", s.name ? s.name : "-", s.path ? s.path : "-", s.weight,
               err.message);
    tmb_arena_free(&arena);
}

static void test_sources(void)
{
    source_is("a.jsonl", "a", "a.jsonl", 1);
    source_is("d/some data.tar.npy", "some-data.tar", "d/some data.tar.npy", 1);
    source_is("code=d/a.jsonl:0.25", "code", "d/a.jsonl", 0.25);
    source_is("d/a.jsonl:2", "a", "d/a.jsonl", 2);
    source_is("x=c:/a.txt", "x", "c:/a.txt", 1);
    source_is("d/x=1.txt", "x-1", "d/x=1.txt", 1);
    source_is("x=a.txt:1e-3", "x", "a.txt", 1e-3);
    source_is("x=a.txt:0", NULL, NULL, 0);
    source_is("x=a.txt:-1", NULL, NULL, 0);
    source_is("x=", NULL, NULL, 0);
    source_is("x=:1", NULL, NULL, 0);
}

int main(void)
{
    if (!mkdtemp(folder)) return 99;
    test_sources();
    test_kinds();
    test_texts();
    test_random();
    test_sampling();
    test_refused();
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ok(system(command) == 0, "tidy");
    return done();
}
