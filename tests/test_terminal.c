/* What people read: sizes, escaped names, tables that fit, the progress line. */
#include "config.h"
#include "src/progress.h"
#include "src/table.h"
#include "src/text.h"
#include "tap.h"

#include <string.h>

static void test_numbers(void)
{
    char out[TMB_HUMAN_BYTES];
    ok(!strcmp(tmb_human_bytes(out, 0), "0 B"), "0 B: %s", out);
    ok(!strcmp(tmb_human_bytes(out, 1023), "1023 B"), "1023 B: %s", out);
    ok(!strcmp(tmb_human_bytes(out, 1536), "1.50 KiB"), "1.50 KiB: %s", out);
    ok(!strcmp(tmb_human_bytes(out, 407164715827), "379.2 GiB"), "379.2 GiB: %s", out);
    ok(!strcmp(tmb_human_bytes(out, UINT64_MAX), "16384 PiB"), "16384 PiB: %s", out);
    ok(!strcmp(tmb_human_count(out, 999), "999"), "999: %s", out);
    ok(!strcmp(tmb_human_count(out, 2738176), "2.74 M"), "2.74 M: %s", out);
    ok(!strcmp(tmb_human_count(out, 671026404352), "671.0 B"), "671.0 B: %s", out);
    ok(!strcmp(tmb_human_seconds(out, 7.4), "0:07"), "0:07: %s", out);
    ok(!strcmp(tmb_human_seconds(out, 11100), "3:05:00"), "3:05:00: %s", out);
    ok(!strcmp(tmb_human_seconds(out, -1), "0:00"), "a negative time is 0:00: %s", out);
    ok(!strcmp(tmb_human_integer(out, 369122), "369,122"), "369,122: %s", out);
    ok(!strcmp(tmb_human_integer(out, 5), "5"), "5: %s", out);
    tmb_human_integer(out, UINT64_MAX);
    ok(strlen(out) < sizeof out, "the largest integer fits: %s", out);
}

static void test_names(void)
{
    char out[64];
    ok(!strcmp(tmb_safe(out, sizeof out, "a\033[2Jb"), "a\\x1b[2Jb"), "an escape sequence: %s",
       out);
    ok(!strcmp(tmb_safe(out, sizeof out, "caf\xc3\xa9"), "caf\xc3\xa9"), "UTF-8 stays");
    ok(!strcmp(tmb_safe(out, sizeof out,
                        "a\xff"
                        "b\xc3"),
               "a\\xffb\\xc3"),
       "broken UTF-8: %s", out);
    ok(!strcmp(tmb_safe(out, sizeof out,
                        "a\xe2\x80\xae"
                        "b"),
               "a\\xe2\\x80\\xaeb"),
       "a character that reverses the line: %s", out);
    ok(!strcmp(tmb_safe(out, sizeof out,
                        "\xc2\x9b"
                        "2J"),
               "\\xc2\\x9b2J"),
       "a C1 control: %s", out);
    ok(!strcmp(tmb_safe(out, sizeof out, "\xc0\x80"), "\\xc0\\x80"), "an overlong NUL: %s", out);
    char small[6];
    ok(!strcmp(tmb_safe(small, sizeof small, "abcd\xc3\xa9"), "abcd"), "no half character: %s",
       small);
    char text[] = "model.layers.0.mlp.experts.3.up_proj";
    tmb_shorten(text, 20);
    ok(tmb_columns(text) == 20 && strstr(text, "up_proj"), "shortened in the middle: %s", text);
    char wide[] =
        "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9";
    tmb_shorten(wide, 8);
    ok(tmb_columns(wide) == 8 && !strcmp(tmb_safe(out, sizeof out, wide), wide),
       "UTF-8 is cut between characters: %s", wide);
}

static void test_wrap(void)
{
    ok(tmb_line_bytes("one two three", 13) == 13, "a text that fits is one line");
    ok(tmb_line_bytes("one two three", 12) == 7, "else it ends at a blank");
    ok(tmb_line_bytes("one two three", 7) == 7 && tmb_line_bytes("one two three", 6) == 3,
       "the last that fits");
    ok(tmb_line_bytes("verylongword two", 5) == 12, "a word that does not fit stays whole");
    ok(tmb_line_bytes("\xc3\xa9\xc3\xa9 b", 4) == 6, "characters count, not bytes");
    ok(tmb_line_bytes("of 98 % or", 5) == 2, "a per cent sign stays with its number");
    ok(tmb_line_bytes("", 5) == 0, "nothing is nothing");
}

static size_t longest_line(FILE *f, size_t *lines)
{
    char line[1024];
    size_t most = 0;
    *lines = 0;
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (tmb_columns(line) > most) most = tmb_columns(line);
        ++*lines;
    }
    return most;
}

static void test_table(void)
{
    tmb_table t;
    size_t lines;
    FILE *f = tmpfile();
    tmb_table_open(&t, "role|>tensors|<decided by");
    tmb_table_row(&t, "expert\t%d\t%s", 288, "line 7: *experts* = nvfp4");
    tmb_table_rule(&t);
    tmb_table_row(&t, "a\nb\t%d\t%0150d", 1, 7);
    tmb_table_row(&t, "words\t%d\t%s", 2,
                  "a reason that needs more room than this column has left for it on one line of a "
                  "page, so that it is broken");
    ok(tmb_table_close(&t, 2, f), "a table prints");
    size_t most = longest_line(f, &lines);
    ok(lines == 6 && most <= TMB_PAGE_COLUMNS, "6 lines, the longest has %zu columns", most);
    char line[256];
    rewind(f);
    while (fgets(line, sizeof line, f) && !strstr(line, "words"))
        ;
    ok(strstr(line, "words") && fgets(line, sizeof line, f) &&
           !strncmp(line, "                   ", 19) && strstr(line, "broken"),
       "words go on in their column: %s", strtok(line, "\n"));
    rewind(f);
    ok(fgets(line, sizeof line, f) && !strncmp(line, "  role", 6), "indented heads: %s",
       strtok(line, "\n"));
    ok(fgets(line, sizeof line, f) && strstr(line, "expert      288  line 7"), "aligned: %s",
       strtok(line, "\n"));
    fclose(f);
}

static void test_progress(void)
{
    tmb_meter m = {.mode = TMB_METER_BAR, .phase = "quantize", .began = 100, .first_bytes = 0};
    m.last = (tmb_progress){.phase = "quantize",
                            .done_bytes = 500000000,
                            .total_bytes = 1000000000,
                            .done_units = 5,
                            .total_units = 10,
                            .current = "model.layers.0.mlp.up_proj"};
    char line[512];
    tmb_meter_line(&m, 110, 100, line, sizeof line);
    ok(strstr(line, "47.68 MiB/s") && strstr(line, "ETA 0:10") && strstr(line, "50 %"),
       "rate and ETA: %s", line);
    ok(tmb_columns(line) <= 100, "%zu of 100 columns", tmb_columns(line));
    for (int columns = 20; columns <= 200; columns += 7) {
        tmb_meter_line(&m, 110, columns, line, sizeof line);
        if (tmb_columns(line) > (size_t)columns) break;
    }
    ok(tmb_columns(line) <= 200, "the line fits every width");
    m.first_bytes = 400000000; /* resumed: 400 MB were there before */
    tmb_meter_line(&m, 110, 100, line, sizeof line);
    ok(strstr(line, "9.54 MiB/s") && strstr(line, "ETA 0:50"),
       "a resumed job counts its own work: %s", line);
    m.last.done_bytes = m.first_bytes;
    tmb_meter_line(&m, 110, 100, line, sizeof line);
    ok(strstr(line, "ETA -:--") != NULL, "no guess before there is something to go by: %s", line);
}

int main(void)
{
    test_numbers();
    test_names();
    test_wrap();
    test_table();
    test_progress();
    return done();
}
