/* The page: markup that nests whatever a file says, nothing fetched, nothing that runs, numbers
 * where they belong, colours that can be read; of several shapes.  With TOMBAC_PAGES=FOLDER they
 * are written there, to be looked at. */
#include "config.h"
#include "moe/diagnose/page.h"
#include "moe/diagnose/page_internal.h"
#include "tests/page_synthetic.h"
#include "tests/tap.h"

#include <ctype.h>

static const char hostile[] = "</title></style><script>alert(1)</script>\"' onload=x &amp;\xff\n"
                              "\xe2\x80\xae%s%n";

/* ------------------------------------------------------------------ markup */

enum { DEPTH = 64 };

static bool is_void(const char *name, size_t n)
{
    static const char *const names[] = {"meta", "br"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && !memcmp(names[i], name, n)) return true;
    return false;
}

/* Attributes are name="value" or a bare name; the end of the tag, NULL when it is none. */
static const char *attributes(const char *p, bool *closed)
{
    for (;;) {
        p += strspn(p, " \n");
        if (*p == '>') return p + 1;
        if (p[0] == '/' && p[1] == '>') {
            *closed = true;
            return p + 2;
        }
        size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-0123456789");
        if (!n || !strncmp(p, "on", 2) || !strncmp(p, "href", 4) || !strncmp(p, "src", 3))
            return NULL;
        p += n;
        if (*p != '=') continue;
        if (p[1] != '"') return NULL;
        p = strpbrk(p + 2, "\"<");
        if (!p || *p != '"') return NULL;
        p++;
    }
}

/* Where the markup does not nest; NULL when all of it does. */
static const char *broken(const char *text)
{
    const char *open[DEPTH];
    size_t length[DEPTH], depth = 0;
    const char *p = strstr(text, "<html");
    while (p && *p) {
        p = strpbrk(p, "<&");
        if (!p) break;
        const char *at = p;
        if (*p == '&') {
            if (strncmp(p, "&amp;", 5) && strncmp(p, "&lt;", 4) && strncmp(p, "&gt;", 4) &&
                strncmp(p, "&quot;", 6) && strncmp(p, "&#39;", 5))
                return at;
            p++;
            continue;
        }
        bool end = p[1] == '/', closed = false;
        const char *name = p + 1 + end;
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789");
        if (!n || !(p = attributes(name + n, &closed))) return at;
        if (end) {
            if (!depth || length[depth - 1] != n || memcmp(open[depth - 1], name, n)) return at;
            depth--;
        } else if (!closed && !is_void(name, n)) {
            if (depth == DEPTH) return at;
            open[depth] = name;
            length[depth++] = n;
        }
    }
    return depth ? "the end" : NULL;
}

/* Every figure is named for those who cannot see it. */
static bool figures_named(const char *text)
{
    for (const char *p = text; (p = strstr(p, "<svg ")); p++) {
        const char *end = strchr(p, '>');
        size_t n = (size_t)(end - p);
        if (!memmem(p, n, "aria-label", 10) && !memmem(p, n, "aria-hidden", 11)) return false;
    }
    return true;
}

/* "nan", "inf" or "-0.0" as a word. */
static bool odd_number(const char *text)
{
    static const char *const words[] = {"nan", "inf", "-nan", "-inf"};
    for (const char *p = text; *p; p++) {
        if (p > text && (isalnum((unsigned char)p[-1]) || p[-1] == '-')) continue;
        for (int i = 0; i < 4; i++) {
            size_t n = strlen(words[i]);
            if (!strncmp(p, words[i], n) && !isalnum((unsigned char)p[n])) return true;
        }
        if (!strncmp(p, "-0.0", 4) && !isdigit((unsigned char)p[4]) && p[4] != '.') return true;
    }
    return false;
}

static void look(const char *name, const synthetic *s, size_t most)
{
    tmb_diagnosis *d = synthetic_make(s), *e = synthetic_make(s);
    char *a = NULL, *b = NULL;
    size_t n = 0, m = 0;
    tmb_err err = {0};
    ok(d && e && !tmb_page(d, &a, &n, &err) && !tmb_page(e, &b, &m, &err), "%s: made: %s", name,
       err.message);
    if (!a || !b) exit(done());
    ok(n == m && !memcmp(a, b, n), "%s: the same bytes twice", name);
    ok(n < most, "%s: %zu kB", name, n / 1000);
    const char *at = broken(a);
    ok(!at, "%s: all markup nests%s%.60s", name, at ? ": " : "", at ? at : "");
    ok(!strstr(a, "<script") && !strstr(a, "://") && !strstr(a, "url(") && !strstr(a, "@import"),
       "%s: nothing runs, nothing is fetched", name);
    ok(figures_named(a), "%s: all figures are named", name);
    ok(!odd_number(a), "%s: no number that is none", name);
    ok(!strstr(a, "12.3 s"), "%s: no time in it", name);
    const char *folder = getenv("TOMBAC_PAGES");
    char path[512];
    snprintf(path, sizeof path, "%s/%s.html", folder ? folder : "", name);
    FILE *f = folder ? fopen(path, "w") : NULL;
    if (f) fwrite(a, 1, n, f);
    if (f) fclose(f);
    free(a);
    free(b);
    tmb_diagnosis_free(d);
    tmb_diagnosis_free(e);
}

/* ------------------------------------------------------------------ what it says */

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void test_contents(void)
{
    synthetic s = {6, 1, 16, 4, 1, true, hostile};
    tmb_diagnosis *d = synthetic_make(&s);
    char *a = NULL;
    size_t n = 0;
    ok(!tmb_page(d, &a, &n, NULL), "made");
    if (!a) return;
    ok(count(a, "&lt;script&gt;alert(1)&lt;/script&gt;") >= 8, "names are shown, escaped");
    ok(strstr(a, "\\xff") && strstr(a, "\\x0a") && strstr(a, "\\xe2\\x80\\xae") &&
           strstr(a, "%s%n"),
       "what cannot be seen is shown by its bytes");
    ok(strstr(a, "<dd>0.0213</dd>") && strstr(a, "0.0203 to 0.0223"), "KL with its interval");
    ok(strstr(a, "<span class=\"r\">− @router = nvfp4</span>") && count(a, "class=\"r\">") == 1 &&
           count(a, "class=\"a\">") == 0,
       "the recipe's difference is one line");
    ok(strstr(a, "79.8\xc2\xa0%") != NULL, "what the change gives");
    ok(count(a, "layer 0: no router") == 11, "a layer without a router is said to be one: %zu",
       count(a, "layer 0: no router"));
    ok(count(a, "<rect class=\"hn\"") == 11, "and is not coloured");
    ok(strstr(a, "<dd>65\xe2\x80\xaf"
                 "536") ||
           strstr(a, "65\xe2\x80\xaf"
                     "536 tokens"),
       "counts have their thousands apart");
    free(a);
    tmb_diagnosis_free(d);
}

static void test_numbers(void)
{
    static const struct {
        double value;
        const char *share, *small;
    } cases[] = {
        {0.798, "79.8 %", "0.798"},
        {1, "100 %", "1.00"},
        {0, "0 %", "0"},
        {0.99996, "99.996 %", "1.00"},
        {0.99999999, "> 99.9999 %", "1.00"},
        {0.9994, "99.9 %", "0.999"},
        {0.0005, "0.050 %", "0.000500"},
        {-0.25, "−25.0 %", "−0.250"},
        {12.3456, "1234.6 %", "12.3"},
        {123456, "12345600.0 %", "123456"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tmb_figure a = tmb_figure_share(cases[i].value), b = tmb_figure_small(cases[i].value);
        char *space = strstr(a.text, "\xc2\xa0");
        if (space) memmove(space, " %", 3);
        ok(!strcmp(a.text, cases[i].share) && !strcmp(b.text, cases[i].small), "%.8g: %s, %s",
           cases[i].value, a.text, b.text);
    }
    ok(!strcmp(tmb_figure_small(1.234e-6).text, "1.2e-06"), "small ones have an exponent");
    ok(!strcmp(tmb_figure_small(NAN).text, "–") && !strcmp(tmb_figure_share(INFINITY).text, "–"),
       "what is no number is a dash");
    ok(!strcmp(tmb_figure_count(1234567).text, "1\xe2\x80\xaf"
                                               "234\xe2\x80\xaf"
                                               "567") &&
           !strcmp(tmb_figure_count(1234).text, "1234"),
       "thousands");
    ok(!strcmp(tmb_figure_times(9.27).text, "9.3×") && !strcmp(tmb_figure_times(92.7).text, "93×"),
       "multiples");
}

static void test_ticks(void)
{
    double t[TMB_TICKS];
    tmb_axis a = {0, 0.97, false};
    size_t n = tmb_axis_ticks(&a, 5, t);
    ok(n == 6 && fabs(a.hi - 1) < 1e-12 && fabs(t[1] - 0.2) < 1e-12, "0 … 0.97 by fifths");
    tmb_axis b = {0.003, 40, true};
    n = tmb_axis_ticks(&b, 6, t);
    ok(n == 6 && fabs(b.lo - 1e-3) < 1e-12 && fabs(b.hi - 100) < 1e-9, "a logarithm by decades");
    double none[] = {NAN, INFINITY};
    tmb_axis c = tmb_axis_of(none, 2, false), e = tmb_axis_of(none, 2, true);
    ok(c.hi > c.lo && e.hi > e.lo && e.lo > 0, "no values still make an axis");
}

/* ------------------------------------------------------------------ colours */

static double luminance(const char *css, const char *name)
{
    char key[16];
    snprintf(key, sizeof key, "--%s:#", name);
    const char *p = strstr(css, key);
    double rgb[3];
    if (!p) return -1;
    p += strlen(key);
    bool brief = !isxdigit((unsigned char)p[3]);
    for (int i = 0; i < 3; i++) {
        char hex[3] = {p[brief ? i : 2 * i], p[brief ? i : 2 * i + 1], 0};
        double v = (double)strtol(hex, NULL, 16) / 255;
        rgb[i] = v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4);
    }
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2];
}

/* WCAG 2.2, 1.4.3. */
static double contrast(const char *css, const char *a, const char *b)
{
    double x = luminance(css, a), y = luminance(css, b);
    if (x < 0 || y < 0) return 0;
    return x > y ? (x + 0.05) / (y + 0.05) : (y + 0.05) / (x + 0.05);
}

static void test_colours(void)
{
    static const char *const pairs[][2] = {{"fg", "bg"}, {"mu", "bg"}, {"fg", "so"}, {"mu", "so"},
                                           {"ad", "so"}, {"rm", "so"}, {"tl", "h0"}, {"tl", "h1"},
                                           {"tl", "h2"}, {"tl", "h3"}, {"tl", "h4"}, {"tl", "h5"},
                                           {"td", "h6"}, {"td", "h7"}, {"td", "h8"}};
    static const char *const lines[] = {"rf", "ot", "wa", "no"};
    const char *css = tmb_page_style();
    const char *themes[] = {css, strstr(css, "prefers-color-scheme:dark")};
    for (int t = 0; t < 2; t++) {
        bool dark = t, rising = true;
        for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
            double c = contrast(themes[t], pairs[i][0], pairs[i][1]);
            ok(c >= 4.5, "%s: %s on %s has %.1f", dark ? "dark" : "light", pairs[i][0], pairs[i][1],
               c);
        }
        for (int i = 0; i < 4; i++)
            ok(contrast(themes[t], lines[i], "bg") >= 3, "%s: line %s can be seen",
               dark ? "dark" : "light", lines[i]);
        for (int i = 0; i < 8; i++) {
            char a[3] = {'h', (char)('0' + i), 0}, b[3] = {'h', (char)('1' + i), 0};
            double x = luminance(themes[t], a), y = luminance(themes[t], b);
            rising &= dark ? y > x : y < x;
        }
        ok(rising, "%s: the steps of the heat map are one after the other without hue",
           dark ? "dark" : "light");
    }
}

int main(void)
{
    static const struct {
        const char *name;
        synthetic s;
        size_t most;
    } shapes[] = {
        {"6x16", {6, 0, 16, 4, 1, true, "a-nvfp4"}, 150000},
        {"61x256", {61, 3, 256, 8, 0.6, true, "a-nvfp4"}, 1500000},
        {"100x512", {100, 0, 512, 10, 0.6, true, "a-nvfp4"}, 5000000},
        {"equal", {6, 0, 16, 4, 0, false, "a"}, 150000},
        {"single", {1, 0, 8, 2, 1, true, "one"}, 150000},
        {"dense", {4, 4, 1, 1, 1, false, "dense"}, 150000},
        {"hostile", {6, 1, 16, 4, 1, true, hostile}, 150000},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        look(shapes[i].name, &shapes[i].s, shapes[i].most);
    test_contents();
    test_numbers();
    test_ticks();
    test_colours();
    return done();
}
