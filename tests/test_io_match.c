#include "config.h"
#include "moe/io/match.h"
#include "tests/tap.h"

#include <string.h>
#include <time.h>

static void test_glob(void)
{
    /* The results are Python's: fnmatch.fnmatchcase(name, pattern). */
    static const struct {
        const char *pattern, *name;
        int want;
    } cases[] = {
        {"*experts*", "model.layers.0.mlp.experts.3.up_proj", 1},
        {"*experts*", "model.layers.0.mlp.shared_experts.up_proj", 1},
        {"model.*.up_proj", "model.layers.0.mlp.up_proj", 1},
        {"model.*.up_proj", "model.layers.0.mlp.up_proj.x", 0},
        {"*", "", 1},
        {"", "", 1},
        {"", "a", 0},
        {"**a", "ba", 1},
        {"?", "", 0},
        {"?", "a", 1},
        {"?", "\xc3\xa4", 1},
        {"??", "\xc3\xa4", 0},
        {"[\xc3\xa4-\xc3\xb6]", "\xc3\xb5", 1},
        {"layers.[0-3].*", "layers.2.x", 1},
        {"layers.[0-3].*", "layers.4.x", 0},
        {"[!a]", "b", 1},
        {"[!a]", "a", 0},
        {"[^a]", "a", 1},
        {"[^a]", "^", 1},
        {"[^a]", "b", 0},
        {"[]]", "]", 1},
        {"[!]]", "]", 0},
        {"[]", "[]", 1},
        {"[a", "[a", 1},
        {"[!", "[!", 1},
        {"[a-]", "-", 1},
        {"[-a]", "-", 1},
        {"[z-a]", "m", 0},
        {"[--a]", "5", 1},
        {"\\*", "\\x", 1},
        {"a*b*c", "aXbXbXc", 1},
        {"a*b*c", "aXbXbXd", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(tmb_glob(cases[i].pattern, cases[i].name) == cases[i].want, "\"%s\" %s \"%s\"",
           cases[i].pattern, cases[i].want ? "takes" : "leaves", cases[i].name);
    char name[4001] = {0}, pattern[201] = {0};
    memset(name, 'a', 4000);
    for (int i = 0; i < 200; i += 2)
        memcpy(pattern + i, "*a", 2);
    pattern[199] = 'b';
    clock_t start = clock();
    ok(!tmb_glob(pattern, name) && clock() - start < CLOCKS_PER_SEC, "a hundred stars end soon");
}

static int matches(const char *pattern, const char *name)
{
    tmb_regex *re;
    if (tmb_regex_open(&re, pattern, NULL)) return -1;
    int result = tmb_regex_match(re, name) + 2 * tmb_regex_fullmatch(re, name);
    tmb_regex_close(re);
    return result;
}

static void test_regex(void)
{
    ok(matches("model\\.layers", "model.layers.1") == 1, "match needs the start alone");
    ok(matches("layers", "model.layers") == 0, "and does need it");
    ok(matches("a|ab", "ab") == 3, "fullmatch tries every alternative");
    ok(matches("model\\.layers\\.\\d+\\..*", "model.layers.12.x") == 3, "digits");
    ok(matches("\\w+", "\xc3\xa4") == 3, "\\w takes letters of every script, as Python's");
    ok(matches("(?P<n>a)(?P=n)", "aa") == 3, "Python's named groups");
    ok(matches("", "") == 3 && matches("", "a") == 1, "the empty pattern");
    ok(matches("(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab") == 0,
       "a hostile pattern ends");
    ok(matches("a", "a\xff") & 1, "a name that is no UTF-8 does no harm");
    tmb_regex *re;
    tmb_err err;
    ok(tmb_regex_open(&re, "a(b", &err) == TMB_EDATA &&
           strcmp(err.message,
                  "regular expression \"a(b\": missing closing parenthesis at character 4") == 0,
       "a bad pattern: %s", err.message);
    ok(tmb_regex_open(&re, "(*UCP)a", &err) == TMB_EDATA, "no verbs");
}

static void test_near(void)
{
    static const char *const words[] = {"nvfp4", "fp8", "fp8-block", "mxfp4", "bf16"};
    ok(tmb_edit_distance("kitten", "sitting") == 3 && tmb_edit_distance("", "abc") == 3 &&
           tmb_edit_distance("a", "a") == 0,
       "distances");
    ok(strcmp(tmb_nearest("nvpf4", words, 5), "nvfp4") == 0, "nvpf4 is nvfp4");
    ok(strcmp(tmb_nearest("fp8_block", words, 5), "fp8-block") == 0, "fp8_block is fp8-block");
    ok(!tmb_nearest("quantum", words, 5) && !tmb_nearest("", words, 5) &&
           !tmb_nearest("x", words, 0),
       "nothing near is nothing");
}

int main(void)
{
    test_glob();
    test_regex();
    test_near();
    return done();
}
