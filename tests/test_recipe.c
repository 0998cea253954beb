/* What a recipe may look like, and the recipes that come with tombac. */
#include "config.h"
#include "moe/recipe/assign.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <string.h>

static tmb_err err;

static tmb_recipe *parse(const char *text, size_t n)
{
    tmb_recipe *r = NULL;
    err.message[0] = 0;
    if (tmb_recipe_parse(&r, text, n, "dir/mine.ini", &err)) printf("# %s\n", err.message);
    return r;
}

static bool rule_is(const tmb_recipe *r, int i, const char *left, const char *format, int line)
{
    return r && i < r->n_rules && strcmp(r->rules[i].left, left) == 0 &&
           strcmp(r->rules[i].spec->name, format) == 0 && r->rules[i].line == line;
}

static void test_calibration(void)
{
    static const char plain[] = "[recipe]\nversion = 1\n[rules]\n* = fp8\n";
    static const char text[] = "[recipe]\nversion = 1\n[rules]\n* = fp8\n[calibration]\n"
                               "source.prose = data/calib prose.jsonl, 0.5 ; half\n"
                               "source.code = /abs/a,b.bin ,2\nsource.x=y.txt\nsamples = 100\n"
                               "length = 512\nseed = 18446744073709551615\nfit = pad\n";
    char *resolved = NULL, *again = NULL;
    tmb_recipe *r = parse(plain, strlen(plain)), *second = NULL;
    if (!ok(r != NULL, "a recipe without [calibration]")) return;
    ok(r->calibration.line == 0 && r->calibration.samples == 512 && r->calibration.length == 2048 &&
           r->calibration.fit == TMB_FIT_PACK && r->calibration.seed == 0,
       "has the defaults");
    tmb_recipe_close(r);
    r = parse(text, strlen(text));
    if (!ok(r != NULL, "a recipe with [calibration]")) return;
    const tmb_calibration *c = &r->calibration;
    ok(c->line == 5 && c->n_sources == 3 && c->samples == 100 && c->length == 512 &&
           c->fit == TMB_FIT_PAD && c->seed == UINT64_MAX,
       "its numbers");
    ok(!strcmp(c->sources[0].name, "prose") && c->sources[0].weight == 0.5 &&
           !strcmp(c->sources[0].path, "dir/data/calib prose.jsonl"),
       "a source stands beside the recipe: %s", c->sources[0].path);
    ok(!strcmp(c->sources[1].path, "/abs/a,b.bin") && c->sources[1].weight == 2 &&
           !strcmp(c->sources[2].path, "dir/y.txt") && c->sources[2].weight == 1,
       "unless its path is absolute; the weight may be left out");
    ok(!tmb_recipe_resolved(&resolved, r, NULL, 0, &err) &&
           (second = parse(resolved, strlen(resolved))) &&
           !tmb_recipe_resolved(&again, second, NULL, 0, &err) && !strcmp(resolved, again) &&
           !strcmp(second->calibration.sources[0].path, c->sources[0].path),
       "resolved it means the same");
    free(resolved);
    free(again);
    tmb_recipe_close(r);
    tmb_recipe_close(second);
}

static void test_whole(void)
{
    static const char text[] = "; a comment\n"
                               "# another\n"
                               "[recipe]\n"
                               "version = 1\n"
                               "description = Experts: caf\xc3\xa9, 50% #1 = fine ; not this\n"
                               "\n"
                               "[rules]          ; first match\n"
                               "@shared_expert=fp8\n"
                               "  *.layers.[0-3].* = bf16 ; indented\n"
                               "\t*experts*\t=\tfine\n"
                               "model.layers.7.self_attn.o_proj = mxfp8\n"
                               "*              = fp8\n"
                               "[format fine]\n"
                               "scale = mse\n"
                               "base = nvfp4\n"
                               "[ kv_cache ]\n"
                               "format = fp8\n"
                               "[output]\n"
                               "layout = compressed-tensors\n"
                               "shard_size = 2GiB";
    tmb_recipe *r = parse(text, strlen(text));
    if (!ok(r != NULL, "a recipe with everything is read")) return;
    ok(strcmp(r->path, "dir/mine.ini") == 0 && strcmp(r->name, "mine") == 0, "path and name");
    ok(strcmp(r->description, "Experts: caf\xc3\xa9, 50% #1 = fine") == 0, "description: %s",
       r->description);
    ok(strcmp(r->text, text) == 0 && strlen(r->sha256) == 64, "text and its digest are kept");
    ok(r->n_rules == 5, "5 rules");
    ok(rule_is(r, 0, "@shared_expert", "fp8", 8) && r->rules[0].by_role &&
           r->rules[0].role == TMB_ROLE_SHARED_EXPERT,
       "a role");
    ok(rule_is(r, 1, "*.layers.[0-3].*", "bf16", 9) && !r->rules[1].spec->format,
       "an indented rule is a rule, bf16 keeps");
    ok(rule_is(r, 2, "*experts*", "fine", 10), "a variant that is defined further down");
    ok(r->rules[2].spec->scale == TMB_SCALE_MSE && r->rules[2].spec->line == 13 &&
           strcmp(r->rules[2].spec->format->name, "nvfp4") == 0,
       "the variant's base, scale and line");
    ok(rule_is(r, 3, "model.layers.7.self_attn.o_proj", "mxfp8", 11), "an exact name");
    ok(rule_is(r, 4, "*", "fp8", 12) && r->rules[4].spec->scale == TMB_SCALE_MAX, "a built-in");
    ok(r->kv_fp8 && r->kv_line == 17, "KV cache");
    ok(strcmp(r->layout, "compressed-tensors") == 0 && r->layout_line == 19, "layout");
    ok(r->shard_size == (uint64_t)2 << 30, "shard size, in a last line without a newline");
    tmb_recipe_close(r);
}

static void test_defaults(void)
{
    static const char text[] = "\xef\xbb\xbf[recipe]\r\nversion = 1\r\n[rules]\r\n* = fp8\r\n";
    tmb_recipe *r = parse(text, strlen(text));
    if (!ok(r != NULL, "a byte order mark and CR LF are no obstacle")) return;
    ok(rule_is(r, 0, "*", "fp8", 4), "the rule");
    ok(!r->kv_fp8 && !r->kv_line, "KV cache stays as it is unless said");
    ok(strcmp(r->layout, "modelopt") == 0 && !r->layout_line, "modelopt unless said");
    ok(r->shard_size == 0 && strcmp(r->description, "") == 0, "no shard size, no description");
    tmb_recipe_close(r);
}

/* 198 bytes of a line are what inih can hold; the same line must come back whole. */
static void test_long_line(void)
{
    char text[400] = "[recipe]\nversion=1\n[rules]\n*=fp8\n[recipe2]";
    char tail[200];
    memset(tail, 'x', sizeof tail);
    int n = snprintf(text, sizeof text, "[rules]\n*=fp8\n[recipe]\nversion=1\ndescription=%.*s\n",
                     198 - 12, tail);
    tmb_recipe *r = parse(text, (size_t)n);
    ok(r && strlen(r->description) == 186, "a line of 198 bytes is read whole");
    char *resolved = NULL;
    if (r && !tmb_recipe_resolved(&resolved, r, NULL, 0, &err)) {
        tmb_recipe *again = parse(resolved, strlen(resolved));
        ok(again && strcmp(again->description, r->description) == 0,
           "and so is the resolved form of it");
        tmb_recipe_close(again);
    }
    free(resolved);
    tmb_recipe_close(r);
    n = snprintf(text, sizeof text, "[rules]\n*=fp8\n[recipe]\nversion=1\ndescription=%.*s\n",
                 199 - 12, tail);
    ok(tmb_recipe_parse(&r, text, (size_t)n, "x.ini", &err) == TMB_EUSAGE && !r,
       "one of 199 is refused");
    n = snprintf(text, sizeof text, "; %.*s\n[rules]\n*=fp8\n[recipe]\nversion=1\n", 200, tail);
    r = parse(text, (size_t)n);
    ok(r != NULL, "a comment may be as long as it likes");
    tmb_recipe_close(r);
}

static void test_sizes(void)
{
    static const struct {
        const char *text;
        uint64_t want; /* 0: refused */
    } rows[] = {
        {"5G", (uint64_t)5 << 30},
        {"512M", 512 << 20},
        {"16GiB", (uint64_t)16 << 30},
        {"16GB", (uint64_t)16 << 30},
        {"64k", 64 << 10},
        {"1T", (uint64_t)1 << 40},
        {"1000000", 1000000},
        {"100B", 100},
        {"18446744073709551615", UINT64_MAX},
        {"18446744073709551616", 0},
        {"16777216T", 0},
        {"", 0},
        {"G", 0},
        {"-5G", 0},
        {"5 G", 0},
        {"5Gi", 0},
        {"5X", 0},
        {"1.5G", 1610612736},
        {"1.", 0},
        {"1.5", 0},
        {".5G", 0},
        {"1.1234567G", 0},
        {"5GiBB", 0},
        {"0x10", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t got = 0;
        bool good = tmb_size_parse(rows[i].text, &got);
        ok(good == (rows[i].want != 0) && got == rows[i].want, "size \"%s\"", rows[i].text);
    }
}

/* Resolved text read again gives the same text: it is complete. */
static void check_fixpoint(const tmb_recipe *r, const char *name)
{
    char *once = NULL, *twice = NULL;
    tmb_recipe *again = NULL;
    tmb_status status = tmb_recipe_resolved(&once, r, NULL, 5000000000u, &err);
    if (!status) status = tmb_recipe_parse(&again, once, strlen(once), name, &err);
    if (!status) status = tmb_recipe_resolved(&twice, again, NULL, 0, &err);
    ok(!status && strcmp(once, twice) == 0, "%s: resolved is a fixpoint%s%s", name,
       status ? ": " : "", status ? err.message : "");
    if (!status) {
        ok(again->kv_fp8 == r->kv_fp8 && strcmp(again->layout, r->layout) == 0 &&
               again->shard_size == 5000000000u && again->n_rules >= r->n_rules,
           "%s: resolved says the same", name);
    }
    free(once);
    free(twice);
    tmb_recipe_close(again);
}

static void test_resolved(void)
{
    static const char text[] = "[recipe]\nversion = 1\n[rules]\n*experts* = fine\n"
                               "[format fine]\nbase = nvfp4\nscale = mse\n";
    tmb_recipe *r = parse(text, strlen(text));
    char *resolved = NULL;
    if (!ok(r && !tmb_recipe_resolved(&resolved, r, "compressed-tensors", 1000, &err),
            "resolved text"))
        return;
    static const char *const parts[] = {"version = 1\n", "*experts* = fine\n* = bf16\n",
                                        "[format fine]\nbase = nvfp4\nscale = mse\n",
                                        "[kv_cache]\nformat = none\n",
                                        "layout = compressed-tensors\nshard_size = 1000\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ok(strstr(resolved, parts[i]) != NULL, "resolved holds part %zu", i);
    check_fixpoint(r, "a variant");
    free(resolved);
    tmb_recipe_close(r);
}

static void test_shipped(const char *folder)
{
    const char *const folders[] = {"/nowhere", folder, NULL};
    tmb_arena arena = {0};
    const char **names = tmb_recipe_shipped(folders, &arena);
    int n = 0;
    for (; names && names[n]; n++) {
        tmb_recipe *r = NULL;
        tmb_status status = tmb_recipe_load(&r, names[n], folders, &err);
        if (!ok(!status, "%s loads%s%s", names[n], status ? ": " : "", status ? err.message : ""))
            continue;
        ok(*r->text == ';' && *r->description, "%s opens with a comment and describes itself",
           names[n]);
        ok(strcmp(r->name, names[n]) == 0, "%s is called so", names[n]);
        check_fixpoint(r, names[n]);
        tmb_recipe_close(r);
    }
    ok(n >= 8, "%d recipes are shipped", n);

    tmb_recipe *r = NULL;
    ok(!tmb_recipe_load(&r, "nvfp4-experts.ini", folders, &err), "a name with .ini is found");
    tmb_recipe_close(r);
    char path[4200];
    snprintf(path, sizeof path, "%s/fp8-all.ini", folder);
    ok(!tmb_recipe_load(&r, path, NULL, &err) && strcmp(r->path, path) == 0, "a path is found");
    tmb_recipe_close(r);

    ok(tmb_recipe_load(&r, "nvfp4-expert", folders, &err) == TMB_ENOINPUT &&
           strstr(err.message, "nvfp4-expert: neither a file nor a shipped recipe; did you mean "
                               "'nvfp4-experts'? (fp8-all, "),
       "a name misspelt: %s", err.message);
    ok(tmb_recipe_load(&r, "best", folders, &err) == TMB_ENOINPUT &&
           strstr(err.message, "use one of fp8-all, "),
       "a name of nothing: %s", err.message);
    ok(tmb_recipe_load(&r, "./mine.ini", folders, &err) == TMB_ENOINPUT &&
           strstr(err.message, "./mine.ini: no such recipe file"),
       "a path of nothing: %s", err.message);
    ok(tmb_recipe_load(&r, folder, folders, &err) == TMB_ENOINPUT &&
           strstr(err.message, ": a folder; give the recipe file in it"),
       "a folder: %s", err.message);
    tmb_arena_free(&arena);
}

int main(void)
{
    test_calibration();
    test_whole();
    test_defaults();
    test_long_line();
    test_sizes();
    test_resolved();
    const char *srcdir = getenv("srcdir");
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/recipes", srcdir ? srcdir : ".");
    test_shipped(folder);
    return done();
}
