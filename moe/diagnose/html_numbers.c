/* html_numbers.c - numbers as people read them.  Every figure of the page is written here, so that
 * the same quantity has the same digits wherever it stands. */
#include "config.h"
#include "moe/diagnose/html.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static tmb_figure dash(void)
{
    return (tmb_figure){.text = "–"};
}

/* printf writes the point of the locale; tombac's own programs keep C's, a caller's may not. */
static void point(tmb_figure *f)
{
    char *comma = strchr(f->text, ',');
    if (comma) *comma = '.';
}

tmb_figure tmb_figure_fixed(double value, int digits)
{
    tmb_figure f;
    if (!isfinite(value)) return dash();
    double half = 0.5 * pow(10, -digits);
    snprintf(f.text, sizeof f.text, "%.*f", digits, fabs(value) < half ? 0.0 : value);
    point(&f);
    if (strlen(f.text) == sizeof f.text - 1) return dash();
    if (*f.text == '-') { /* a minus sign, as wide as a plus */
        tmb_figure g;
        snprintf(g.text, sizeof g.text, "−%.*s", TMB_FIGURE - 8, f.text + 1);
        return g;
    }
    return f;
}

/* Near one, as many digits as tell it from one; "100 %" is said of exactly one alone. */
tmb_figure tmb_figure_share(double share)
{
    if (!isfinite(share)) return dash();
    double rest = fabs(1 - share) * 100;
    int digits = 1;
    while (digits < 4 && rest > 0 && rest < 0.5 * pow(10, -digits))
        digits++;
    if (rest == 0 || share == 0) digits = 0;
    if (share != 0 && fabs(share) < 0.001) digits = 3;
    tmb_figure f = tmb_figure_fixed(share * 100, digits);
    if (rest > 0 && strcmp(f.text, "100.0000") == 0) strcpy(f.text, "> 99.9999");
    strncat(f.text, "\xc2\xa0%", sizeof f.text - strlen(f.text) - 1); /* no-break space */
    return f;
}

tmb_figure tmb_figure_small(double value)
{
    tmb_figure f;
    if (!isfinite(value)) return dash();
    double size = fabs(value);
    if (size == 0) return (tmb_figure){.text = "0"};
    if (size >= 5e-5 && size < 1e6) {
        char text[32]; /* rounded first: 0.99996 has three digits as 1.00 */
        snprintf(text, sizeof text, "%.2e", size);
        int digits = 2 - atoi(strchr(text, 'e') + 1);
        return tmb_figure_fixed(value, digits < 0 ? 0 : digits);
    }
    snprintf(f.text, sizeof f.text, "%s%.1e", value < 0 ? "−" : "", size);
    point(&f);
    return f;
}

tmb_figure tmb_figure_times(double value)
{
    tmb_figure f = tmb_figure_fixed(value, value != 0 && fabs(value) < 9.95 ? 1 : 0);
    if (isfinite(value)) strncat(f.text, "×", sizeof f.text - strlen(f.text) - 1);
    return f;
}

tmb_figure tmb_figure_count(uint64_t value)
{
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
    tmb_figure f = {""};
    char *w = f.text;
    for (int i = 0; i < n; i++) {
        if (i > 0 && n > 4 && (n - i) % 3 == 0) {
            memcpy(w, "\xe2\x80\xaf", 3); /* narrow no-break space */
            w += 3;
        }
        *w++ = digits[i];
    }
    *w = 0;
    return f;
}

tmb_figure tmb_figure_range(double lo, double hi, bool share)
{
    tmb_figure f = {""};
    if (!isfinite(lo) || !isfinite(hi) || lo == hi) return f;
    tmb_figure a = share ? tmb_figure_fixed(lo * 100, 1) : tmb_figure_small(lo);
    tmb_figure b = share ? tmb_figure_fixed(hi * 100, 1) : tmb_figure_small(hi);
    snprintf(f.text, sizeof f.text, "%.20s to %.20s%s", a.text, b.text, share ? "\xc2\xa0%" : "");
    return f;
}
