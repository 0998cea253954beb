/* docs.c - which reader a source gets, and what all of them check. */
#include "config.h"
#include "moe/tokens/docs.h"

#include "moe/io/calls.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *ending;
    tmb_status (*open)(tmb_docs *d, tmb_err *err);
} readers[] = {
    {".jsonl", tmb_docs_jsonl},
    {".txt", tmb_docs_txt},
    {".npy", tmb_docs_npy},
    {".bin", tmb_docs_bin},
    {".safetensors", tmb_docs_safetensors},
};

tmb_status tmb_docs_open(tmb_docs *d, const char *path, tmb_docs_context *context, tmb_err *err)
{
    const char *dot = strrchr(path, '.');
    struct stat st;
    size_t i = 0, n = sizeof readers / sizeof *readers;
    *d = (tmb_docs){.path = path, .context = context, .fd = -1};
    while (i < n && (!dot || strcmp(dot, readers[i].ending) != 0))
        i++;
    if (i == n)
        return tmb_fail(err, TMB_EUSAGE,
                        "%s: not a file of texts or ids; give .jsonl, .txt, .npy, .bin or "
                        ".safetensors",
                        path);
    d->fd = tmb_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (d->fd < 0) return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open", path);
    if (fstat(d->fd, &st) < 0) return tmb_fail_errno(err, TMB_EIO, "%s: cannot look at it", path);
    if (!S_ISREG(st.st_mode))
        return tmb_fail(err, TMB_EDATA, "%s: no regular file; give a file of texts or ids", path);
    d->file_bytes = (uint64_t)st.st_size;
    if (!d->file_bytes) return tmb_fail(err, TMB_EDATA, "%s: empty; give a file with data", path);
    return readers[i].open(d, err);
}

void tmb_docs_close(tmb_docs *d)
{
    if (d->close) d->close(d);
    if (d->fd >= 0) (void)tmb_close(d->fd);
    *d = (tmb_docs){.fd = -1};
}

static const char *model_of(const tmb_data_options *o)
{
    return o->model ? o->model : "the model";
}

tmb_status tmb_docs_encoder(tmb_docs *d, tmb_err *err)
{
    tmb_docs_context *c = d->context;
    if (c->encoder) return TMB_OK;
    if (!c->o->tokenizer)
        return tmb_fail(err, TMB_EDATA,
                        "%s: a text, and there is no tokenizer; give token ids (input_ids) or a "
                        "checkpoint with tokenizer.json",
                        d->path);
    TRY(tmb_tokenizer_load(&c->tokenizer, c->o->tokenizer, err));
    uint32_t ids = tmb_tokenizer_model_ids(c->tokenizer); /* an added one may go unused */
    if (c->o->vocab && ids > c->o->vocab)
        return tmb_fail(err, TMB_EDATA,
                        "%s: the tokenizer has %" PRIu32
                        " ids, and the embedding of %s has %" PRIu64
                        " rows: it is of another model; give the model's own",
                        c->o->tokenizer, ids, model_of(c->o), c->o->vocab);
    return tmb_encoder_open(&c->encoder, c->tokenizer, err);
}

tmb_status tmb_docs_check(const tmb_docs *d, uint64_t i, uint64_t from, const int32_t *ids,
                          size_t n, tmb_err *err)
{
    uint64_t vocab = d->context->o->vocab ? d->context->o->vocab : (uint64_t)INT32_MAX + 1;
    for (size_t k = 0; k < n; k++)
        if (ids[k] < 0 || (uint64_t)ids[k] >= vocab)
            return tmb_fail(err, TMB_EDATA,
                            "%s: document %" PRIu64 ", token %" PRIu64 ": id %" PRId32
                            " is not one of the %" PRIu64 " of %s; the ids are of another "
                            "vocabulary",
                            d->path, i + 1, from + k + 1, ids[k], vocab, model_of(d->context->o));
    return TMB_OK;
}
