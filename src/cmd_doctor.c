/* cmd_doctor.c - tombac doctor: what this machine has, and which shipped recipe suits it. */
#include "config.h"
#include "src/advice.h"
#include "src/commands.h"
#include "src/emit.h"
#include "src/table.h"
#include "src/text.h"

#include "kernels/cpu/cpu.h"

typedef struct options {
    tmb_common common;
    const char *gpu;
} options;

static void print_machine(const tmb_machine *m)
{
    char a[TMB_HUMAN_BYTES], b[TMB_HUMAN_BYTES];
    printf("processor  %s, %d usable; vector code: %s\n", m->processor, m->processors,
           tmb_cpu_ops()->name);
    printf("memory     %s of %s free\n", tmb_human_bytes(a, m->memory_free),
           tmb_human_bytes(b, m->memory));
    printf("disk       %s free here\n", tmb_human_bytes(a, m->disk_free));
    if (m->assumed) printf("GPU        none: %s\n", m->no_gpu);
    for (int i = 0; i < m->n_gpus; i++) {
        const tmb_gpu *g = &m->gpus[i];
        int same = 1;
        while (i + 1 < m->n_gpus && m->gpus[i + 1].bytes == g->bytes &&
               m->gpus[i + 1].major == g->major && m->gpus[i + 1].minor == g->minor) {
            same++;
            i++;
        }
        fputs("GPU        ", stdout);
        if (same > 1) printf("%d x ", same);
        printf("%s, sm_%d%d", g->name, g->major, g->minor);
        if (g->bytes) printf(", %s%s", tmb_human_bytes(a, g->bytes), same > 1 ? " each" : "");
        printf("%s\n", m->assumed ? "  (assumed; --gpu NAME asks for another)"
                       : m->asked ? "  (asked for)"
                                  : "");
    }
}

static bool print_candidates(const tmb_advice *a)
{
    char bytes[TMB_HUMAN_BYTES];
    tmb_table t;
    tmb_table_open(&t, "recipe|>weights|>bits/weight|fits|<how this GPU computes it");
    for (int i = 0; i < a->n_candidates; i++) {
        const tmb_candidate *c = &a->candidates[i];
        if (c->possible)
            tmb_table_row(&t, "%s\t%s\t%.2f\t%s\t%s", c->recipe, tmb_human_bytes(bytes, c->bytes),
                          c->bits, c->fits ? "yes" : "no", c->runs);
        else
            tmb_table_row(&t, "%s\t\t\t\tnot for this checkpoint: %s", c->recipe, c->why);
    }
    return tmb_table_close(&t, 0, stdout);
}

static void print_fact(const char *head, const char *text)
{
    printf("%-11s", head);
    tmb_print_wrapped(stdout, 11, text);
}

static tmb_status print_advice(const tmb_machine *m, const tmb_advice *a, const tmb_job *job,
                               tmb_err *err)
{
    char line[3 * TMB_ERR_BYTES], safe[TMB_ERR_BYTES], bytes[TMB_HUMAN_BYTES];
    bool fine = true;
    printf("           %s: %s\n", a->generation, a->cores);
    if (job) {
        char about[1024];
        printf("\nmodel      %s\n", tmb_safe(safe, sizeof safe, job->ckpt->path));
        snprintf(line, sizeof line, "%s, %s as it is",
                 tmb_job_about(job->model, about, sizeof about),
                 tmb_human_bytes(bytes, job->ckpt->total_bytes));
        print_fact("", line);
        if (a->budget) {
            snprintf(line, sizeof line,
                     "up to %s of weights: %.0f %% of GPU memory, the rest is for KV cache and "
                     "activations",
                     tmb_human_bytes(bytes, a->budget), 100 * TMB_WEIGHT_SHARE);
            print_fact("", line);
        }
        fputs("\n", stdout);
        fine = print_candidates(a);
    }
    fputs("\n", stdout);
    if (job && a->chosen >= 0) {
        const char *recipe = a->candidates[a->chosen].recipe;
        snprintf(line, sizeof line, "%s: %s", recipe, a->reason);
        print_fact("advice", line);
        if (a->peak_bytes > m->memory_free)
            printf("           quantizing takes %s of memory, more than is free: add --max-ram\n",
                   tmb_human_bytes(bytes, a->peak_bytes));
        printf("next       tombac plan %s --recipe %s\n", safe, recipe);
    } else if (job) {
        snprintf(line, sizeof line, "none fits: %s", a->reason);
        print_fact("advice", line);
    } else {
        size_t n = (size_t)snprintf(line, sizeof line, "%s", a->candidates[0].recipe);
        for (int i = 1; i < a->n_candidates && n < sizeof line; i++)
            n += (size_t)snprintf(line + n, sizeof line - n, ", then %s", a->candidates[i].recipe);
        if (n < sizeof line)
            snprintf(line + n, sizeof line - n, "%s: %s",
                     a->n_candidates > 1 ? ", the first that fits" : "", a->reason);
        print_fact("advice", line);
        fputs("next       tombac doctor CKPT weighs them for your checkpoint\n", stdout);
    }
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static tmb_status print_json(const tmb_machine *m, const tmb_advice *a, const tmb_job *job,
                             tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_json *o = tmb_emit_object(&e, e.root, "machine");
    tmb_emit_text(&e, o, "processor", m->processor);
    tmb_emit_int(&e, o, "processors", (uint64_t)m->processors);
    tmb_emit_text(&e, o, "vectors", tmb_cpu_ops()->name);
    tmb_emit_int(&e, o, "memory_bytes", m->memory);
    tmb_emit_int(&e, o, "memory_free_bytes", m->memory_free);
    tmb_emit_int(&e, o, "disk_free_bytes", m->disk_free);
    tmb_emit_text(&e, o, "gpus_are", m->assumed ? "assumed" : m->asked ? "asked for" : "found");
    tmb_json *gpus = tmb_emit_array(&e, o, "gpus");
    for (int i = 0; i < m->n_gpus; i++) {
        tmb_json *g = tmb_emit_item(&e, gpus);
        tmb_emit_text(&e, g, "name", m->gpus[i].name);
        tmb_emit_int(&e, g, "capability", (uint64_t)(10 * m->gpus[i].major + m->gpus[i].minor));
        tmb_emit_int(&e, g, "memory_bytes", m->gpus[i].bytes);
    }
    tmb_emit_text(&e, e.root, "generation", a->generation);
    if (job) {
        tmb_emit_text(&e, e.root, "checkpoint", job->ckpt->path);
        tmb_emit_int(&e, e.root, "bytes", job->ckpt->total_bytes);
        if (a->budget) tmb_emit_int(&e, e.root, "weight_budget_bytes", a->budget);
    }
    tmb_json *array = tmb_emit_array(&e, e.root, "candidates");
    for (int i = 0; i < a->n_candidates; i++) {
        const tmb_candidate *c = &a->candidates[i];
        tmb_json *item = tmb_emit_item(&e, array);
        tmb_emit_text(&e, item, "recipe", c->recipe);
        if (!job) continue;
        tmb_emit_bool(&e, item, "possible", c->possible);
        if (!c->possible) {
            tmb_emit_text(&e, item, "why", c->why);
            continue;
        }
        tmb_emit_int(&e, item, "bytes", c->bytes);
        tmb_emit_num(&e, item, "bits_effective", c->bits);
        tmb_emit_bool(&e, item, "fits", c->fits);
        tmb_emit_text(&e, item, "computed", c->runs);
    }
    tmb_emit_text(&e, e.root, "recipe", a->chosen >= 0 ? a->candidates[a->chosen].recipe : NULL);
    tmb_emit_text(&e, e.root, "reason", a->reason);
    return tmb_emit_print(&e, err);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    tmb_machine machine;
    tmb_advice advice;
    tmb_job job = {0};
    TRY(tmb_machine_look(&machine, o.gpu, err));
    tmb_status status = operands[0] ? tmb_job_open(&job, operands[0], err) : TMB_OK;
    if (!status) {
        tmb_advise(&advice, &machine, operands[0] ? &job : NULL);
        const tmb_job *weighed = operands[0] ? &job : NULL;
        if (o.common.json) {
            status = print_json(&machine, &advice, weighed, err);
        } else {
            print_machine(&machine);
            status = print_advice(&machine, &advice, weighed, err);
        }
    }
    tmb_job_close(&job);
    return status;
}

static const tmb_arg args[] = {
    {"gpu", 0, TMB_ARG_TEXT, offsetof(options, gpu), "NAME",
     "advise for another machine: h100, 8xb200, rtx5090, sm90 [this one]", NULL},
    {0},
};

const tmb_command tmb_command_doctor = {
    .name = "doctor",
    .synopsis = "[CKPT] [--gpu NAME]",
    .about = "Say what this machine has, and which shipped recipe suits it and why",
    .help = "With CKPT every shipped recipe is planned for it and held against GPU memory.\n"
            "  tombac doctor models/Qwen3-30B-A3B\n"
            "  tombac doctor models/Qwen3-30B-A3B --gpu 8xh100\n",
    .operand = "checkpoint folder",
    .least = 0,
    .most = 1,
    .args = args,
    .run = run,
};
