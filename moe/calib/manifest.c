/* manifest.c - how statistics came about: the part of the file that two equal runs may differ in.
 */
#include "config.h"
#include "moe/calib/rank.h"

#include "moe/io/json.h"

#include <time.h>

static bool set_text(tmb_json *o, const char *key, const char *text)
{
    return tmb_json_set(o, key, tmb_json_new_string(text));
}

static tmb_json *hosts(const tmb_comm *comm)
{
    tmb_json *list = tmb_json_new_array();
    for (int i = 0; list && i < tmb_comm_size(comm); i++)
        if (!tmb_json_append(list, tmb_json_new_string(tmb_comm_host(comm, i)))) {
            tmb_json_free(list);
            return NULL;
        }
    return list;
}

static tmb_json *sources(const tmb_data *data)
{
    tmb_json *list = tmb_json_new_array();
    for (size_t i = 0; list && i < data->n_sources; i++) {
        tmb_json *o = tmb_json_new_object();
        bool fine = o && set_text(o, "name", data->sources[i].name) &&
                    set_text(o, "path", data->sources[i].path) &&
                    tmb_json_set(o, "weight", tmb_json_new_number(data->sources[i].weight));
        if (!fine) tmb_json_free(o);
        if (!fine || !tmb_json_append(list, o)) {
            tmb_json_free(list);
            return NULL;
        }
    }
    return list;
}

char *tmb_calib_manifest(const tmb_calib_rank *r)
{
    const tmb_calib_job *job = r->job;
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    if (!gmtime_r(&now, &utc) || !strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc))
        *date = 0;
    tmb_json *o = tmb_json_new_object();
    bool fine =
        o && set_text(o, "program", PACKAGE_STRING) && set_text(o, "finished", date) &&
        set_text(o, "checkpoint", job->model->ckpt->path) &&
        set_text(o, "data_sha256", job->data->sha256) &&
        set_text(o, "tokenizer_sha256", job->data->tokenizer_sha256) &&
        set_text(o, "settings", job->settings) && tmb_json_set(o, "sources", sources(job->data)) &&
        set_text(o, "communicator", tmb_comm_name(r->comm)) &&
        tmb_json_set(o, "ranks", tmb_json_new_integer(tmb_comm_size(r->comm))) &&
        tmb_json_set(o, "expert_parallel",
                     tmb_json_new_integer(job->options->ways > 1 ? job->options->ways : 1)) &&
        tmb_json_set(o, "hosts", hosts(r->comm)) &&
        tmb_json_set(o, "threads", tmb_json_new_integer(r->threads)) &&
        tmb_json_set(o, "resumed", tmb_json_new_bool(r->folder.resumed)) &&
        (!job->options->command || set_text(o, "command", job->options->command));
    char *text = fine ? tmb_json_dump(o, 0) : NULL;
    tmb_json_free(o);
    return text;
}
