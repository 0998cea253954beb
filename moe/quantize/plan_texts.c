/* plan_texts.c - the files that are no shards: config.json and what the layout adds, files carried
 * over from the source, the index and tombac.json with their exact lengths. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include "moe/quantize/journal.h"
#include "moe/quantize/summary.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Written anew, or describing a quantization that the output no longer has. */
static const char *const never_carried[] = {
    "config.json",       "hf_quant_config.json",     "quantize_config.json",
    "quant_config.json", "quantization_config.json", "recipe.yaml",
    "tombac.json",       "tombac.journal",
};

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

static bool carried(const tmb_plan *plan, const char *quant_file, const char *name)
{
    if (quant_file && strcmp(name, quant_file) == 0) return false;
    for (size_t i = 0; i < sizeof never_carried / sizeof *never_carried; i++)
        if (strcmp(name, never_carried[i]) == 0) return false;
    return name[0] != '.' && !ends_with(name, ".safetensors") &&
           !ends_with(name, ".safetensors.index.json") &&
           (plan->options.copy_code || !ends_with(name, ".py"));
}

static void drop_quantization(tmb_json *object)
{
    /* compression_config is what compressed-tensors wrote before 0.8, and loaders still look */
    tmb_json_remove(object, "quantization_config");
    tmb_json_remove(object, "compression_config");
    void *it = NULL;
    const char *key;
    const tmb_json *value;
    while (tmb_json_next(object, &it, &key, &value))
        if (tmb_json_is_object(value)) drop_quantization((tmb_json *)(uintptr_t)value);
}

static tmb_status config_texts(tmb_planner *p, const char **file, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    tmb_json *config = p->ckpt->config ? tmb_json_copy(p->ckpt->config) : tmb_json_new_object();
    tmb_json *file_json = NULL;
    if (!config) return tmb_fail_memory(err, 1 << 16, "config.json");
    drop_quantization(config);
    tmb_status status = plan->layout->config(&plan->job, config, file, &file_json, err);
    if (!status) plan->config_text = tmb_json_dump(config, 2);
    if (!status && file_json) plan->file_text = tmb_json_dump(file_json, 2);
    if (!status && (!plan->config_text || (file_json && !plan->file_text)))
        status = tmb_fail_memory(err, 1 << 16, "config.json");
    tmb_json_free(config);
    tmb_json_free(file_json);
    return status;
}

static void add(tmb_plan *plan, const char *name, uint64_t bytes, tmb_other_kind kind)
{
    plan->others[plan->n_others++] = (tmb_other_file){.name = name, .bytes = bytes, .kind = kind};
}

static tmb_status carry(tmb_planner *p, const char *quant_file, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    bool code_left = false;
    for (size_t i = 0; i < p->ckpt->n_other_files; i++) {
        const char *name = p->ckpt->other_files[i];
        struct stat st;
        if (!carried(plan, quant_file, name)) {
            code_left = code_left || ends_with(name, ".py");
            continue;
        }
        if (!tmb_plain_name(name))
            return tmb_fail(
                err, TMB_EDATA,
                "%s/%s: a file name that is too long or holds control characters; rename "
                "it, or move it away",
                p->ckpt->path, name);
        if (fstatat(p->ckpt->dirfd, name, &st, 0))
            return tmb_fail_errno(err, TMB_ENOINPUT, "%s/%s: cannot look at it", p->ckpt->path,
                                  name);
        add(plan, name, (uint64_t)st.st_size, TMB_OTHER_CARRIED);
    }
    if (!code_left) return TMB_OK;
    return tmb_plan_warn(plan,
                         "Python files of the source are not carried over, since loaders run "
                         "them; --copy-code does, when you trust them",
                         err);
}

tmb_status tmb_plan_texts(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    const char *file = NULL;
    size_t room = p->ckpt->n_other_files + 4;
    TRY(config_texts(p, &file, err));
    TRY(tmb_recipe_resolved(&plan->resolved, plan->job.recipe, plan->layout->name,
                            plan->options.shard_size, err));
    TRY(tmb_sha256(plan->resolved, strlen(plan->resolved), plan->resolved_sha256, err));
    plan->others = tmb_arena_alloc(&plan->arena, room * sizeof *plan->others);
    if (!plan->others)
        return tmb_fail_memory(err, room * sizeof *plan->others, "files carried over");

    TRY(carry(p, file, err));
    if (!p->ckpt->config)
        TRY(tmb_plan_warn(plan,
                          "the source has no config.json; the one written holds the "
                          "quantization alone, and loaders need more",
                          err));
    add(plan, "config.json", strlen(plan->config_text), TMB_OTHER_CONFIG);
    if (plan->file_text) add(plan, file, strlen(plan->file_text), TMB_OTHER_QUANT);
    if (plan->n_files > 1)
        add(plan, tmb_plan_index_name(), tmb_plan_index_bytes(plan), TMB_OTHER_INDEX);
    add(plan, TMB_SUMMARY_NAME, 0, TMB_OTHER_SUMMARY);
    /* it lists all files but itself, so its own length does not matter to it */
    plan->others[plan->n_others - 1].bytes = tmb_summary_bytes(plan);

    for (uint32_t i = 0; i < plan->n_files; i++)
        plan->disk_bytes += plan->files[i].header_bytes + plan->files[i].data_bytes;
    for (uint32_t i = 0; i < plan->n_others; i++)
        plan->disk_bytes += plan->others[i].bytes;
    return TMB_OK;
}
