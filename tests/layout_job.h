/* layout_job.h - for tests: a planned job and the configurations it would write. */
#ifndef TMB_TESTS_LAYOUT_JOB_H
#define TMB_TESTS_LAYOUT_JOB_H

#include "tests/layout_faults.h"
#include "tests/tap.h"

#define L0 "model.layers.0."

/* A job in one layout, and its configurations. */
typedef struct planned {
    job j;
    tmb_json *config, *file;
    const tmb_json *q, *f; /* the configurations in them */
} planned;

static inline bool open_at(planned *o, const char *path, const char *rules, const char *layout)
{
    tmb_plan_options options = {.layout = layout};
    memset(o, 0, sizeof *o);
    bool good = !job_open(&o->j, path, rules, &options) && texts(&o->j, &o->config, &o->file);
    o->q = tmb_json_get(o->config, "quantization_config");
    o->f = tmb_json_get(o->file, "quantization");
    if (!good) ok(0, "%s, %s: %s", path, layout, o->j.err.message);
    return good;
}

/* NAME of tests/data, or of a checkpoint made in the program's folder: "names/NAME". */
static inline bool open_job(planned *o, const char *name, const char *rules, const char *layout)
{
    bool made = strncmp(name, "names/", 6) == 0;
    return open_at(o, made ? in_root(name + 6) : data_path(name), rules, layout);
}

static inline void close_job(planned *o)
{
    tmb_json_free(o->config);
    tmb_json_free(o->file);
    job_close(&o->j);
}

static inline const char *key_of(const planned *o, const char *name)
{
    modelopt c = {.layers = tmb_json_get(o->q, "quantized_layers")};
    return key_algo(&c, name);
}

static inline const tmb_out *out_of(const planned *o, const char *name)
{
    for (uint32_t i = 0; i < o->j.plan->n_outs; i++)
        if (strcmp(o->j.plan->outs[i].name, name) == 0) return &o->j.plan->outs[i];
    return NULL;
}

static inline bool warned(const planned *o, const char *words)
{
    for (uint32_t w = 0; w < o->j.plan->n_warnings; w++)
        if (strstr(o->j.plan->warnings[w], words)) return true;
    return false;
}

#endif
