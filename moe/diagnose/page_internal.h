/* page_internal.h - the sections of the page, in the order they stand in; internal to page*.c. */
#ifndef TMB_DIAGNOSE_PAGE_INTERNAL_H
#define TMB_DIAGNOSE_PAGE_INTERNAL_H

#include "moe/diagnose/diagnosis.h"
#include "moe/diagnose/svg.h"

/* The contents of <style>. */
const char *tmb_page_style(void);

/* Each writes its section, or nothing where the diagnosis has nothing for it. */
void tmb_page_verdict(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_advice(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_causes(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_waterfalls(tmb_html *h, const tmb_diagnosis *d); /* inside causes */
void tmb_page_layers(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_margins(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_load(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_replay(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_split(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_ablation(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_sensitivity(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_manifest(tmb_html *h, const tmb_diagnosis *d);
void tmb_page_glossary(tmb_html *h, const tmb_diagnosis *d);

/* --- what several of them use (page_parts.c) ---------------------------------------------------
 */

/* A value in the unit of its metric: "79.8 %", "0.0213", "9.3×", "3". */
tmb_figure tmb_page_value(tmb_metric m, double value);
/* Its interval the same way; empty when there is none. */
tmb_figure tmb_page_range(tmb_metric m, tmb_interval v);
/* <td> with a value and, small, its interval. */
void tmb_page_cell(tmb_html *h, tmb_metric m, tmb_interval v);

/* A row of a heat map: a strip with one cell a layer. */
typedef struct tmb_strip {
    const char *name, *about; /* about is said on hovering over the name; may be NULL */
    const double *bad;        /* [n] how bad, 0 is good; NaN: nothing there */
    size_t n;
    double least;        /* the darkest colour is never given to less than this */
    const char *overall; /* the figure behind the row; may be NULL */
} tmb_strip;
/* said(ctx, i, …) writes what is said on hovering over cell i. */
void tmb_page_strip(tmb_html *h, const tmb_strip *s,
                    void (*said)(void *ctx, size_t i, char *text, size_t size), void *ctx);
/* The row of layer numbers under the strips of n layers. */
void tmb_page_strip_axis(tmb_html *h, size_t n);
/* Which colour of the nine, 0 … 8. */
int tmb_page_shade(double bad, double most);

/* "Layers 3, 7 and 12", "" for none; at most `size`. */
void tmb_page_list(char *text, size_t size, const char *one, const char *many, const int *of,
                   size_t n);

#endif
