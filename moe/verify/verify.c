/* verify.c - the order of the checks.
 *
 * Names and configuration first, then what is stored, then numbers, then what engines make of it;
 * each step leaves in the modules what the next ones ask for. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include "kernels/base/team.h"

#include <stdlib.h>

static const char *layout_name(const tmb_verifier *v)
{
    switch (v->config.layout) {
    case TMB_VL_MODELOPT:
        return "modelopt";
    case TMB_VL_CT:
        return "compressed-tensors";
    case TMB_VL_NATIVE:
    case TMB_VL_NONE:
        break;
    }
    return "none";
}

/* What no check above has put into words. */
static void check_readable(tmb_verifier *v)
{
    tmb_ran(v, TMB_CHECK_UNREADABLE);
    for (uint32_t i = 0; i < v->model->n_units; i++) {
        const tmb_unit *u = &v->model->units[i];
        if (!u->broken || !u->linear) continue;
        const tmb_module *m = tmb_module_find(v, u->disk ? u->disk : u->name);
        bool strange = m && m->meant && m->meant->kind == TMB_VK_OTHER;
        if (m && m->damaged) continue;
        tmb_find(v, TMB_CHECK_UNREADABLE, strange || !m ? TMB_WARNING : TMB_ERROR, 0, u->name,
                 "its parts do not make a weight: %s", u->broken);
    }
}

static tmb_status run(tmb_verifier *v, tmb_err *err)
{
    TRY(tmb_inventory(v, err));
    TRY(tmb_vconfig_load(v, err));
    v->total_units = v->n_modules + (v->options->against ? v->model->n_units : 0);
    v->total_bytes = v->ckpt->total_bytes;
    tmb_vconfig_resolve(v);
    tmb_check_parts(v);
    TRY(tmb_check_values(v, err));
    tmb_check_structure(v);
    tmb_check_pairs(v);
    tmb_check_kv(v);
    tmb_check_loaders(v);
    check_readable(v);
    TRY(tmb_compare_source(v, err));
    TRY(tmb_check_files(v, err));
    TRY(tmb_checkpoint_unchanged(v->ckpt, err));
    if (v->no_memory) return tmb_fail_memory(err, 0, "the report");
    return TMB_OK;
}

tmb_status tmb_verify(tmb_verify_report **out, const tmb_model *model,
                      const tmb_verify_options *options, tmb_err *err)
{
    *out = NULL;
    tmb_verify_report *report = calloc(1, sizeof *report);
    if (!report) return tmb_fail_memory(err, sizeof *report, "the report");
    tmb_verifier v = {.model = model,
                      .ckpt = model->ckpt,
                      .options = options,
                      .ops = tmb_cpu_ops(),
                      .threads = options->threads > 0 ? options->threads : tmb_team_size(),
                      .report = report};
    pthread_mutex_init(&v.lock, NULL);
    tmb_status status = run(&v, err);
    pthread_mutex_destroy(&v.lock);
    if (!status) {
        report->layout = layout_name(&v);
        tmb_findings_finish(&v);
        *out = report;
    } else {
        tmb_verify_report_close(report);
    }
    tmb_vconfig_close(&v.config);
    tmb_nameset_free(&v.by_name);
    tmb_arena_free(&v.scratch);
    return status;
}

void tmb_verify_report_close(tmb_verify_report *report)
{
    if (!report) return;
    tmb_arena_free(&report->arena);
    free(report);
}
