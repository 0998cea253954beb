/* verify.h - is a quantized checkpoint, ours or anybody's, whole, sane, and read by the engines
 * as it was meant?
 *
 * The configuration is resolved for every Linear the way each loader does it (vLLM: substring
 * exclusion and fused names; SGLang: fullmatch of the name or one part of it; TensorRT-LLM: exact
 * keys of hf_quant_config.json), and held against what is stored. */
#ifndef TMB_VERIFY_VERIFY_H
#define TMB_VERIFY_VERIFY_H

#include "kernels/base/mem.h"
#include "kernels/base/progress.h"
#include "moe/model/model.h"

typedef enum tmb_severity { TMB_NOTE, TMB_WARNING, TMB_ERROR } tmb_severity;

typedef struct tmb_finding {
    tmb_severity severity;
    const char *check; /* "scale-zero", "gate-up-global", "ignore-substring" … stable words */
    const char *where; /* tensor, module, or config entry */
    const char *text;  /* one sentence: what, who computes what wrongly, remedy */
    uint32_t count;    /* how many of the same kind follow this first one; 1 alone */
} tmb_finding;

typedef struct tmb_verify_options {
    const tmb_model *against; /* source, or NULL */
    int threads;
    bool checksums; /* compare files with tombac.json where there is one */
    tmb_watch watch;
} tmb_verify_options;

typedef struct tmb_verify_group {
    tmb_role role;
    const char *format; /* "nvfp4", "bf16" */
    uint64_t units;
    tmb_sums sums;
    double sqnr_db, cosine;
} tmb_verify_group;

typedef struct tmb_verify_worst {
    const char *name;
    double sqnr_db, cosine, max_error;
} tmb_verify_worst;

typedef struct tmb_verify_report {
    tmb_finding *findings;
    uint32_t n_findings, n_errors, n_warnings;
    uint32_t n_checks;        /* how many kinds of checks ran */
    const char *layout;       /* "modelopt", "compressed-tensors", "none" */
    tmb_verify_group *groups; /* with `against`: errors; without: counts only */
    uint32_t n_groups;
    tmb_verify_worst worst[10];
    uint32_t n_worst;
    uint32_t files_checked, files_known;
    tmb_arena arena;
} tmb_verify_report;

tmb_status tmb_verify(tmb_verify_report **out, const tmb_model *model,
                      const tmb_verify_options *options, tmb_err *err) TMB_CHECKED;
void tmb_verify_report_close(tmb_verify_report *report);

#endif
