/* diagnose_diff.c - tombac diagnose diff: two reports side by side. */
#include "config.h"
#include "src/diagnose.h"

#include "src/emit.h"
#include "src/table.h"

#include "moe/diagnose/report.h"

#include <stdlib.h>

typedef struct options {
    tmb_common common;
} options;

static const char *number(char out[32], double v)
{
    snprintf(out, 32, "%.5g", v);
    return out;
}

/* Overall figures, and those of layers whose intervals lie apart. */
static tmb_status print(const tmb_report_diff *d, tmb_err *err)
{
    char a[32], b[32], lo[2][32], hi[2][32];
    tmb_table t;
    if (!d->same_data) printf("note: the two were measured on different data\n");
    if (!d->same_reference) printf("note: the two have different references\n");
    tmb_table_open(&t, ">layer|metric|>A|>B|>95 % of A|>95 % of B|");
    for (size_t i = 0; i < d->n; i++) {
        const tmb_report_change *c = &d->changes[i];
        char layer[32] = "all";
        if (c->layer >= 0) snprintf(layer, sizeof layer, "%d", c->layer);
        if (c->layer >= 0 && !c->apart) continue;
        tmb_table_row(&t, "%s\t%s\t%s\t%s\t%s \xe2\x80\xa6 %s\t%s \xe2\x80\xa6 %s\t%s", layer,
                      tmb_metric_of(c->metric)->name, number(a, c->a.value), number(b, c->b.value),
                      number(lo[0], c->a.lo), number(hi[0], c->a.hi), number(lo[1], c->b.lo),
                      number(hi[1], c->b.hi), c->apart ? "*" : "");
    }
    if (!tmb_table_close(&t, 0, stdout)) return tmb_fail_memory(err, 0, "the table");
    printf("\nA is %s, B is %s; * the intervals do not overlap: of layers only such are shown\n",
           d->other[0], d->other[1]);
    return TMB_OK;
}

static void emit_side(tmb_emit *e, tmb_json *o, const char *key, tmb_interval i)
{
    tmb_json *side = tmb_emit_object(e, o, key);
    tmb_emit_num(e, side, "value", i.value);
    tmb_emit_num(e, side, "lo", i.lo);
    tmb_emit_num(e, side, "hi", i.hi);
}

static tmb_status json(const tmb_report_diff *d, tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_bool(&e, e.root, "same_data", d->same_data);
    tmb_emit_bool(&e, e.root, "same_reference", d->same_reference);
    tmb_json *list = tmb_emit_array(&e, e.root, "changes");
    for (size_t i = 0; i < d->n; i++) {
        const tmb_report_change *c = &d->changes[i];
        tmb_json *o = tmb_emit_item(&e, list);
        tmb_emit_text(&e, o, "metric", tmb_metric_of(c->metric)->name);
        if (c->layer >= 0) tmb_emit_int(&e, o, "layer", (uint64_t)c->layer);
        emit_side(&e, o, "a", c->a);
        emit_side(&e, o, "b", c->b);
        tmb_emit_bool(&e, o, "apart", c->apart);
    }
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    tmb_json *a = NULL, *b = NULL;
    tmb_report_diff diff = {0};
    tmb_status status = tmb_report_load(&a, operands[0], err);
    if (!status) status = tmb_report_load(&b, operands[1], err);
    if (!status) status = tmb_report_compare(&diff, a, b, err);
    if (!status && o.common.json)
        status = json(&diff, err);
    else if (!status && !o.common.quiet)
        status = diff.n ? print(&diff, err) : TMB_OK;
    if (!status && diff.n) status = TMB_EDIFFER;
    tmb_report_diff_free(&diff);
    tmb_json_free(a);
    tmb_json_free(b);
    return status;
}

static const tmb_arg args[] = {{0}};

const tmb_command tmb_command_diagnose_diff = {
    .name = "diagnose diff",
    .synopsis = "A.json B.json [options]",
    .about = "Compare two reports of diagnose, metric by metric",
    .help = "Exits with 1 when any figure differs. What is of another time or place is no "
            "difference.\n"
            "  tombac diagnose diff before/report.json after/report.json\n",
    .operand = "report.json",
    .least = 2,
    .most = 2,
    .args = args,
    .run = run,
};
