/* page_advice.c - what to change: the advised recipe against the one that was used, line by line,
 * and what it was measured to give. */
#include "config.h"
#include "moe/diagnose/page_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINES = 400, /* longer recipes are shown whole, not compared */
    CONTEXT = 3, /* lines shown around a change */
};

typedef struct lines {
    const char *at[LINES];
    size_t length[LINES], n;
} lines;

static bool split(lines *l, const char *text)
{
    for (l->n = 0; *text; l->n++) {
        if (l->n == LINES) return false;
        l->at[l->n] = text;
        l->length[l->n] = strcspn(text, "\n");
        text += l->length[l->n];
        text += *text == '\n';
    }
    return true;
}

static bool same(const lines *a, size_t i, const lines *b, size_t k)
{
    return a->length[i] == b->length[k] && memcmp(a->at[i], b->at[k], a->length[i]) == 0;
}

static void show(tmb_html *h, const char *class, const char *sign, const lines *l, size_t i)
{
    char *copy = strndup(l->at[i], l->length[i]);
    tmb_html_put(h, "<span class=\"%s\">%s %s</span>", class, sign, copy ? copy : "");
    h->failed |= !copy;
    free(copy);
}

/* One line of the difference. */
typedef struct step {
    char sign; /* ' ' in both, '-' in the first alone, '+' in the second alone */
    uint16_t line;
} step;

/* The longest common subsequence of lines, walked from the front.  rest [(a->n + 1) * (b->n + 1)];
 * steps [a->n + b->n], of which *n are filled. */
static void compare(const lines *a, const lines *b, uint16_t *rest, step *steps, size_t *n)
{
    size_t w = b->n + 1;
    for (size_t i = a->n; i-- > 0;)
        for (size_t k = b->n; k-- > 0;) {
            uint16_t down = rest[(i + 1) * w + k], right = rest[i * w + k + 1];
            rest[i * w + k] = same(a, i, b, k) ? (uint16_t)(rest[(i + 1) * w + k + 1] + 1)
                              : down > right   ? down
                                               : right;
        }
    for (size_t i = 0, k = 0; i < a->n || k < b->n;) {
        if (i < a->n && k < b->n && same(a, i, b, k)) {
            steps[(*n)++] = (step){' ', (uint16_t)i++};
            k++;
        } else if (i < a->n && (k == b->n || rest[(i + 1) * w + k] >= rest[i * w + k + 1])) {
            steps[(*n)++] = (step){'-', (uint16_t)i++};
        } else {
            steps[(*n)++] = (step){'+', (uint16_t)k++};
        }
    }
}

/* Whether a change is within CONTEXT lines. */
static bool near_change(const step *steps, size_t n, size_t at)
{
    size_t from = at < CONTEXT ? 0 : at - CONTEXT;
    for (size_t i = from; i < n && i <= at + CONTEXT; i++)
        if (steps[i].sign != ' ') return true;
    return false;
}

static void show_steps(tmb_html *h, const lines *a, const lines *b, const step *steps, size_t n)
{
    for (size_t i = 0, skipped = 0; i < n; i++) {
        bool wanted = near_change(steps, n, i);
        skipped += !wanted;
        if (skipped && (wanted || i + 1 == n)) {
            tmb_html_put(h, "<span class=\"g\">  … %zu line%s as before</span>", skipped,
                         skipped == 1 ? "" : "s");
            skipped = 0;
        }
        if (wanted && steps[i].sign == '+')
            show(h, "a", "+", b, steps[i].line);
        else if (wanted)
            show(h, steps[i].sign == '-' ? "r" : "g", steps[i].sign == '-' ? "−" : " ", a,
                 steps[i].line);
    }
}

static void difference(tmb_html *h, const char *from, const char *to)
{
    lines *l = calloc(2, sizeof *l);
    bool fits = l && split(&l[0], from) && split(&l[1], to);
    uint16_t *rest = fits ? calloc((l[0].n + 1) * (l[1].n + 1), sizeof *rest) : NULL;
    step *steps = fits ? malloc((l[0].n + l[1].n + 1) * sizeof *steps) : NULL;
    size_t n = 0;
    h->failed |= !l || (fits && (!rest || !steps));
    if (rest && steps) {
        compare(&l[0], &l[1], rest, steps, &n);
        tmb_html_raw(h, "<pre class=\"diff\">");
        show_steps(h, &l[0], &l[1], steps, n);
    } else {
        tmb_html_raw(h, "<pre>");
        tmb_html_lines(h, to);
    }
    tmb_html_raw(h, "</pre>\n");
    free(steps);
    free(rest);
    free(l);
}

static void measured(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_verdict *v = &d->verdict;
    tmb_html_raw(h, "<table><caption>Measured with the change applied</caption>"
                    "<thead><tr><th scope=\"col\"></th><th scope=\"col\">as it is</th>"
                    "<th scope=\"col\">with the change</th></tr></thead>\n<tbody>"
                    "<tr><th scope=\"row\">expert sets unchanged</th>");
    tmb_page_cell(h, TMB_M_SET_MATCH, d->overall[TMB_M_SET_MATCH]);
    tmb_page_cell(h, TMB_M_SET_MATCH, v->advised_set_match);
    tmb_html_raw(h, "</tr>\n<tr><th scope=\"row\">KL of the output, nats</th>");
    tmb_page_cell(h, TMB_M_KL, d->overall[TMB_M_KL]);
    tmb_page_cell(h, TMB_M_KL, v->advised_kl);
    tmb_html_raw(h, "</tr></tbody></table>\n");
}

void tmb_page_advice(tmb_html *h, const tmb_diagnosis *d)
{
    const tmb_verdict *v = &d->verdict;
    if (!v->advice) return;
    tmb_html_raw(h, "<section><h2>What to change</h2>\n");
    if (v->advice_line)
        tmb_html_put(h, "<p>The line that matters most: <code>%s</code></p>\n", v->advice_line);
    difference(h, d->manifest.recipe_text ? d->manifest.recipe_text : "", v->advice);
    if (isfinite(v->advised_set_match.value) || isfinite(v->advised_kl.value))
        measured(h, d);
    else
        tmb_html_raw(h,
                     "<p class=\"note\">Its effect was not measured; <code>--apply-advice</code> "
                     "does.</p>\n");
    tmb_html_raw(h, "</section>\n");
}
