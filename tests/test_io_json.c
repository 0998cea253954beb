#include "config.h"
#include "moe/io/json.h"
#include "tests/tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static tmb_json *parse(const char *text, bool lenient)
{
    tmb_json *json = NULL;
    return tmb_json_parse(&json, text, strlen(text), "f", lenient, NULL) ? NULL : json;
}

/* text, parsed and written on one line, is want. */
static void same(const char *text, const char *want, const char *what)
{
    tmb_json *json = parse(text, true);
    char *got = json ? tmb_json_dump(json, 0) : NULL;
    if (!ok(got && strcmp(got, want) == 0, "%s", what))
        printf("# want %s\n# have %s\n", want, got ? got : "-");
    free(got);
    tmb_json_free(json);
}

static void test_dump(void)
{
    same("{\"z\":1,\"a\":2,\"m\":{\"y\":[],\"b\":{}}}",
         "{\"z\": 1, \"a\": 2, \"m\": {\"y\": [], \"b\": {}}}", "keys keep their order");
    same("[1e-6, 1e-05, 0.0001, 0.1, 10000.0, 1e16, 123456789012345.6, 1E22, -0.0, 5e-324, "
         "1.7976931348623157e308]",
         "[1e-06, 1e-05, 0.0001, 0.1, 10000.0, 1e+16, 123456789012345.6, 1e+22, -0.0, 5e-324, "
         "1.7976931348623157e+308]",
         "real numbers as Python writes them");
    same("[9223372036854775807, -9223372036854775808, 0]",
         "[9223372036854775807, -9223372036854775808, 0]", "integers stay integers");
    same("[NaN, Infinity, -Infinity, 1000000000000000019884624838656, -9223372036854775809]",
         "[NaN, Infinity, -Infinity, 1000000000000000019884624838656, -9223372036854775809]",
         "what JSON lacks comes back as it was");
    same("{\"a NaN\": \"Infinity\", \"b\": \"\\\" NaN\"}",
         "{\"a NaN\": \"Infinity\", \"b\": \"\\\" NaN\"}", "inside strings it is text");
    same("\"\\u00e4\\ud83d\\ude00\\u0001\\n\\/\"", "\"\xc3\xa4\xf0\x9f\x98\x80\\u0001\\n/\"",
         "strings");
    same("[true,false,null]", "[true, false, null]", "words");
    tmb_json *json = parse("{\"a\":[1,{\"b\":2}],\"c\":{}}", false);
    char *text = tmb_json_dump(json, 2);
    ok(strcmp(text,
              "{\n  \"a\": [\n    1,\n    {\n      \"b\": 2\n    }\n  ],\n  \"c\": {}\n}\n") == 0,
       "two spaces a level");
    free(text);
    tmb_json_free(json);
}

/* Every double survives, by bits: a fixed walk over exponents and mantissas. */
static void test_doubles(void)
{
    int good = 1;
    uint64_t bits = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < 20000; i++) {
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        double value, back = 0;
        memcpy(&value, &bits, 8);
        if (!isfinite(value)) continue;
        tmb_json *json = tmb_json_new_number(value);
        char *text = tmb_json_dump(json, 0);
        tmb_json *again = parse(text, false);
        good &= tmb_json_number(again, &back) && memcmp(&value, &back, 8) == 0;
        free(text);
        tmb_json_free(again);
        tmb_json_free(json);
    }
    ok(good, "20,000 doubles are read back bit by bit");
}

static void test_strict(void)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "[1,]",
                                      "{\"a\":1,\"a\":2}",
                                      "[1] x",
                                      "NaN",
                                      "[Infinity]",
                                      "01",
                                      "\"\xff\"",
                                      "\"\\ud800\"",
                                      "\"\\u0000\"",
                                      "{'a':1}",
                                      "1e999",
                                      "9223372036854775808",
                                      "nul",
                                      "\"\n\""};
    static const char *const still_bad[] = {"[NaNs]",   "[Infinity1]", "[--Infinity]",
                                            "{NaN: 1}", "[+Infinity]", "[\"\\u0000\", NaN]",
                                            "[nan]",    "[1NaN]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ok(!parse(bad[i], false), "refused: %zu", i);
    for (size_t i = 0; i < sizeof still_bad / sizeof *still_bad; i++)
        ok(!parse(still_bad[i], true), "refused leniently too: %s", still_bad[i]);
}

static void test_getters(void)
{
    tmb_json *json =
        parse("{\"text_config\": {\"vocab_size\": 7, \"eps\": 1e-6, \"tie\": true, \"n\": null, "
              "\"limit\": Infinity, \"names\": [\"a\", \"b\"]}}",
              true);
    const tmb_json *text = tmb_json_get(json, "text_config");
    int64_t integer = 0;
    double number = 0;
    ok(tmb_json_integer(tmb_json_path(json, "text_config.vocab_size"), &integer) && integer == 7,
       "a dotted path");
    ok(!tmb_json_path(json, "text_config.none.deeper") && !tmb_json_path(NULL, "a"),
       "that leads nowhere");
    ok(tmb_json_number(tmb_json_get(text, "eps"), &number) && number == 1e-6, "a number");
    ok(!tmb_json_integer(tmb_json_get(text, "eps"), &integer), "is no integer");
    ok(tmb_json_number(tmb_json_get(text, "limit"), &number) && isinf(number),
       "Infinity is a number");
    ok(!tmb_json_string(tmb_json_get(text, "limit")), "and no string");
    ok(tmb_json_bool(tmb_json_get(text, "tie"), false) && tmb_json_bool(NULL, true), "booleans");
    ok(tmb_json_is_null(tmb_json_get(text, "n")) && !tmb_json_is_null(tmb_json_get(text, "m")),
       "null is present");
    ok(tmb_json_int_or(text, "vocab_size", 1) == 7 && tmb_json_int_or(text, "tie", 3) == 3,
       "defaults");
    const tmb_json *names = tmb_json_get(text, "names");
    ok(tmb_json_size(names) == 2 && strcmp(tmb_json_string(tmb_json_at(names, 1)), "b") == 0 &&
           !tmb_json_at(names, 2),
       "arrays");
    void *it = NULL;
    const char *key;
    const tmb_json *value;
    char keys[64] = "";
    while (tmb_json_next(text, &it, &key, &value))
        strcat(strcat(keys, key), " ");
    ok(strcmp(keys, "vocab_size eps tie n limit names ") == 0, "a walk in order");
    it = NULL;
    ok(!tmb_json_next(names, &it, &key, &value), "no walk over an array");
    tmb_json_free(json);
}

static void test_build(void)
{
    tmb_json *json = tmb_json_new_object(), *list = tmb_json_new_array();
    int good = tmb_json_append(list, tmb_json_new_integer(1)) &&
               tmb_json_append(list, tmb_json_new_bool(true)) &&
               tmb_json_append(list, tmb_json_new_null()) &&
               tmb_json_append(list, tmb_json_new_number(NAN)) &&
               tmb_json_append(list, tmb_json_new_string("a\xff\xc3\xa4\xe2\x82")) &&
               tmb_json_set(json, "list", list) && tmb_json_set(json, "gone", tmb_json_new_null());
    tmb_json_remove(json, "gone");
    tmb_json *copy = tmb_json_copy(json);
    good &= tmb_json_set(json, "late", tmb_json_new_null());
    char *text = tmb_json_dump(copy, 0);
    ok(good && strcmp(text, "{\"list\": [1, true, null, null, "
                            "\"a\xef\xbf\xbd\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\"]}") == 0,
       "what is built; bad UTF-8 is replaced; a copy is its own");
    free(text);
    tmb_json_free(copy);
    tmb_json_free(json);
}

int main(void)
{
    test_dump();
    test_doubles();
    test_strict();
    test_getters();
    test_build();
    return done();
}
