/* diagnose_print.c - a diagnosis on a terminal. */
#include "config.h"
#include "src/diagnose.h"

#include "src/table.h"
#include "src/text.h"

#include <math.h>
#include <stdio.h>

/* A number as the unit asks for it; "-" when there is none. */
static const char *figure(char out[32], const char *unit, double v)
{
    bool share = unit[0] == 's', whole = unit[0] == 'e';
    if (isnan(v))
        snprintf(out, 32, "-");
    else if (isinf(v))
        snprintf(out, 32, "inf");
    else if (share)
        snprintf(out, 32, "%.2f %%", 100 * v);
    else if (whole && v == floor(v))
        snprintf(out, 32, "%.0f", v);
    else
        snprintf(out, 32, fabs(v) < 0.1 && v != 0 ? "%.5f" : "%.4f", v);
    return out;
}

static void overall_row(tmb_table *t, const tmb_diagnosis *d, tmb_metric m, int reference,
                        int noise)
{
    const tmb_metric_info *info = tmb_metric_of(m);
    const tmb_interval *i = &d->overall[m];
    char value[32], lo[32], hi[32], ref[32] = "", floor_[32] = "";
    if (isnan(i->value)) return;
    if (reference >= 0) figure(ref, info->unit, d->overall[reference].value);
    if (noise >= 0) figure(floor_, info->unit, d->overall[noise].value);
    tmb_table_row(t, "%s\t%s\t%s \xe2\x80\xa6 %s\t%s\t%s", info->title,
                  figure(value, info->unit, i->value), figure(lo, info->unit, i->lo),
                  figure(hi, info->unit, i->hi), ref, floor_);
}

static bool overall(const tmb_diagnosis *d)
{
    static const struct {
        tmb_metric metric;
        int reference, noise;
    } rows[] = {
        {TMB_M_SET_MATCH, -1, TMB_M_NOISE_MATCH},
        {TMB_M_DRIFT, -1, -1},
        {TMB_M_TOP1_MATCH, -1, -1},
        {TMB_M_JACCARD, -1, -1},
        {TMB_M_GATE_TV, -1, -1},
        {TMB_M_REAL_FLIPS, -1, -1},
        {TMB_M_TIE_FLIPS, -1, -1},
        {TMB_M_LOCAL_ROUTER, -1, -1},
        {TMB_M_LOCAL_LAYER, -1, -1},
        {TMB_M_ROUTER_KL, -1, -1},
        {TMB_M_LOAD_KL, -1, -1},
        {TMB_M_DEAD, TMB_M_DEAD_REF, -1},
        {TMB_M_OVERLOADED, TMB_M_OVERLOADED_REF, -1},
        {TMB_M_EP, TMB_M_EP_REF, -1},
        {TMB_M_HIDDEN_ERROR, -1, -1},
        {TMB_M_KL, -1, TMB_M_NOISE_KL},
        {TMB_M_SAME_TOP1, -1, -1},
        {TMB_M_PPL, TMB_M_PPL_REF, -1},
        {TMB_M_BITS, TMB_M_BITS_REF, -1},
    };
    tmb_table t;
    tmb_table_open(&t, "overall|>quantized|>95 %|>reference|>noise floor");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        overall_row(&t, d, rows[i].metric, rows[i].reference, rows[i].noise);
    return tmb_table_close(&t, 0, stdout);
}

static bool layers(const tmb_diagnosis *d)
{
    static const tmb_metric columns[] = {TMB_M_SET_MATCH,    TMB_M_NOISE_MATCH,  TMB_M_TOP1_MATCH,
                                         TMB_M_LOCAL_ROUTER, TMB_M_LOCAL_LAYER,  TMB_M_GATE_TV,
                                         TMB_M_LOAD_KL,      TMB_M_HIDDEN_ERROR, TMB_M_LOCAL_ERROR};
    enum { COLUMNS = sizeof columns / sizeof *columns };
    tmb_table t;
    tmb_table_open(&t, ">layer|>set match|>noise|>top-1|>router*|>layer*|>gate TV|>load KL|>hidden "
                       "error|>layer*");
    for (size_t l = 0; l < d->n_layers; l++) {
        char cell[COLUMNS][32];
        for (size_t c = 0; c < COLUMNS; c++)
            figure(cell[c], tmb_metric_of(columns[c])->unit,
                   d->layers[l].metrics[columns[c]].value);
        tmb_table_row(&t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", d->layers[l].layer, cell[0],
                      cell[1], cell[2], cell[3], cell[4], cell[5], cell[6], cell[7], cell[8]);
    }
    bool fine = tmb_table_close(&t, 0, stdout);
    printf("\n* of the quantized router, or layer, given the reference's exact input; … are 95 %% "
           "intervals\n");
    return fine;
}

/* Without a verdict of causes: what the figures say. */
static void say(const tmb_diagnosis *d)
{
    char a[32], b[32], c[32];
    if (d->identical) {
        printf("The two models are identical: every hidden state, route and logit is equal to the "
               "bit.\n\n");
        return;
    }
    if (d->n_sparse)
        printf("%s of the expert sets change, %s times what 16-bit rounding changes; final KL is "
               "%s nats.\n\n",
               figure(a, "share", 1 - d->overall[TMB_M_SET_MATCH].value),
               figure(b, "", d->overall[TMB_M_DRIFT].value),
               figure(c, "", d->overall[TMB_M_KL].value));
}

tmb_status tmb_diagnose_print(const tmb_diagnosis *d, tmb_err *err)
{
    for (size_t i = 0; i < d->verdict.n_lines; i++)
        tmb_print_wrapped(stdout, 0, d->verdict.lines[i]);
    if (d->verdict.n_lines)
        printf("\n");
    else
        say(d);
    bool fine = overall(d);
    printf("\n");
    fine = layers(d) && fine;
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

void tmb_diagnose_print_gates(const tmb_gates *gates)
{
    for (size_t i = 0; i < gates->n; i++) {
        const tmb_gate *g = &gates->list[i];
        printf("gate %s: %s, it is %.6g\n", g->text, g->met ? "met" : "NOT met", g->found);
    }
}
