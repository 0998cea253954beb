/* data_args.c - the sequences a command runs a model over. */
#include "config.h"
#include "src/data_args.h"

#include <string.h>
#include <unistd.h>

enum { WINDOW = 512 };

/* Rows of the embedding: what an id must be below.  0: not known. */
static uint64_t vocabulary(const tmb_model *model)
{
    for (uint32_t i = 0; i < model->n_units; i++) {
        const tmb_unit *u = &model->units[i];
        uint32_t t = u->stored.part[TMB_PART_CODES];
        if (u->role == TMB_ROLE_EMBEDDING && t != TMB_NO_TENSOR &&
            model->ckpt->tensors[t].rank == 2)
            return model->ckpt->tensors[t].shape[0];
    }
    return 0;
}

static tmb_status read_sources(tmb_source *sources, const tmb_texts *data, tmb_arena *arena,
                               tmb_err *err)
{
    for (size_t i = 0; i < data->n; i++) {
        TRY(tmb_source_parse(&sources[i], data->at[i], arena, err));
        for (size_t j = 0; j < i; j++)
            if (strcmp(sources[i].name, sources[j].name) == 0)
                return tmb_fail(err, TMB_EUSAGE,
                                "--data %s: a source '%s' was already given; name it otherwise: "
                                "--data NAME=PATH",
                                data->at[i], sources[i].name);
    }
    return TMB_OK;
}

/* The recipe's own sources can be opened: the message names the line that asks for one. */
static tmb_status check_sources(const tmb_recipe *recipe, tmb_err *err)
{
    const tmb_calibration *c = &recipe->calibration;
    for (size_t i = 0; i < c->n_sources; i++) {
        const tmb_source *s = &c->sources[i];
        if (access(s->path, R_OK) == 0) continue;
        return tmb_fail_errno(err, TMB_ENOINPUT, "%s:%d: source.%s: %s: cannot read", recipe->path,
                              s->line, s->name, s->path);
    }
    return TMB_OK;
}

tmb_status tmb_calibration_data(tmb_data **out, const tmb_job *job, const tmb_texts *data,
                                const char *ids_type, tmb_err *err)
{
    const tmb_calibration *c = &job->recipe->calibration;
    const char *path = job->model->ckpt->path;
    tmb_source sources[TMB_TEXTS_MAX];
    tmb_arena arena = {0};
    tmb_data_options o = {.sources = data->n ? sources : c->sources,
                          .n_sources = data->n ? data->n : c->n_sources,
                          .tokenizer = path,
                          .ids_type = ids_type && strcmp(ids_type, "uint32") == 0 ? TMB_IDS_U32
                                                                                  : TMB_IDS_U16,
                          .vocab = vocabulary(job->model),
                          .model = path,
                          .samples = c->max_samples > c->samples ? c->max_samples : c->samples,
                          .length = c->length,
                          .fit = c->fit,
                          .seed = c->seed};
    if (!o.n_sources)
        return tmb_fail(err, TMB_EUSAGE,
                        "no data given; add --data FILE, or [calibration] source.NAME = FILE to "
                        "the recipe");
    if (!data->n) TRY(check_sources(job->recipe, err));
    tmb_status status = read_sources(sources, data, &arena, err);
    if (!status) status = tmb_data_open(out, &o, err);
    tmb_arena_free(&arena);
    return status;
}

tmb_status tmb_data_args_open(tmb_data **out, const tmb_data_args *args, const tmb_model *model,
                              size_t vocab, tmb_err *err)
{
    const char *path = model->ckpt->path;
    tmb_source sources[TMB_TEXTS_MAX];
    tmb_arena arena = {0};
    tmb_data_options o = {.sources = sources,
                          .n_sources = args->data.n,
                          .tokenizer = path,
                          .ids_type = args->ids_type && strcmp(args->ids_type, "uint32") == 0
                                          ? TMB_IDS_U32
                                          : TMB_IDS_U16,
                          .vocab = vocab ? vocab : vocabulary(model),
                          .model = path,
                          .samples = (uint64_t)args->samples,
                          .length = (uint32_t)args->length,
                          .fit = TMB_FIT_WHOLE};
    if (args->windows) {
        o.fit = TMB_FIT_PACK;
        if (!o.length) o.length = WINDOW;
    }
    *out = NULL;
    tmb_status status = read_sources(sources, &args->data, &arena, err);
    if (!status) status = tmb_data_open(out, &o, err);
    tmb_arena_free(&arena);
    return status;
}
