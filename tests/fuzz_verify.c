/* fuzz_verify - the quantization configuration of either layout, held against a shard: every check
 * of `tombac verify` but the files, on values that are noise. */
#include "config.h"
#include "moe/verify/verify_internal.h"
#include "tests/fuzz_folder.h"

enum { VALUES_MAX = 1 << 16 };

static void run(const tmb_model *model, const tmb_checkpoint *ckpt)
{
    tmb_err err = {0};
    tmb_verify_options options = {.threads = 1};
    tmb_verify_report *report = calloc(1, sizeof *report);
    if (!report) return;
    tmb_verifier v = {.model = model,
                      .ckpt = ckpt,
                      .options = &options,
                      .ops = tmb_cpu_ops(),
                      .threads = 1,
                      .report = report};
    /* what the configuration says twice it may say differently */
    const tmb_json *hf = tmb_json_get(ckpt->config, "hf_quant_config");
    if (hf) v.config.hf = tmb_json_copy(hf);
    MUST(!tmb_inventory(&v, &err));
    tmb_status status = tmb_vconfig_load(&v, &err);
    if (status) {
        MUST(status == TMB_EDATA && *err.message && !strpbrk(err.message, "\n\033"));
    } else {
        tmb_vconfig_resolve(&v);
        tmb_check_parts(&v);
        if (ckpt->total_bytes < VALUES_MAX) {
            folder_values(ckpt);
            MUST(!tmb_check_values(&v, &err));
        }
        tmb_check_structure(&v);
        tmb_check_pairs(&v);
        tmb_check_kv(&v);
        tmb_check_loaders(&v);
        tmb_findings_finish(&v);
        for (uint32_t i = 0; i < report->n_findings; i++)
            MUST(*report->findings[i].text && !strpbrk(report->findings[i].text, "\n\033") &&
                 !strpbrk(report->findings[i].where, "\n\033"));
    }
    tmb_vconfig_close(&v.config);
    tmb_nameset_free(&v.by_name);
    tmb_arena_free(&v.scratch);
    tmb_verify_report_close(report);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_folder f;
    tmb_model *model = NULL;
    tmb_checkpoint *ckpt = folder_open(&f, data, size);
    if (ckpt && !tmb_model_open(&model, ckpt, NULL)) run(model, ckpt);
    tmb_model_close(model);
    folder_close(&f, ckpt);
    return 0;
}
