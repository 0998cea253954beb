/* fingerprint.c - which checkpoint this is. */
#include "config.h"
#include "moe/model/fingerprint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 4096, SAMPLE_BYTES = 64 };

static int by_name(const void *a, const void *b)
{
    const tmb_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static tmb_status add_shape(tmb_sha256_stream *s, const tmb_tensor *t, tmb_err *err)
{
    char text[32 + 24 * TMB_RANK_MAX];
    int n = snprintf(text, sizeof text, " %s", tmb_dtype_name((tmb_dtype)t->dtype));
    for (int i = 0; i < t->rank; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %" PRIu64, t->shape[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "\n");
    TRY(tmb_sha256_add(s, t->name, strlen(t->name), err));
    return tmb_sha256_add(s, text, (size_t)n, err);
}

static tmb_status add_values(tmb_sha256_stream *s, const tmb_checkpoint *ckpt, const tmb_tensor *t,
                             tmb_err *err)
{
    unsigned char bytes[SAMPLE_BYTES];
    size_t n = t->bytes < SAMPLE_BYTES ? (size_t)t->bytes : SAMPLE_BYTES;
    TRY(tmb_checkpoint_read(ckpt, t, (t->bytes - n) / 2, bytes, n, err));
    return tmb_sha256_add(s, bytes, n, err);
}

static tmb_status add_config(tmb_sha256_stream *s, const tmb_checkpoint *ckpt, tmb_err *err)
{
    if (!ckpt->config) return TMB_OK;
    char *text = tmb_json_dump(ckpt->config, 0);
    if (!text) return tmb_fail_memory(err, 0, "config.json");
    tmb_status status = tmb_sha256_add(s, text, strlen(text), err);
    free(text);
    return status;
}

tmb_status tmb_fingerprint(char out[TMB_SHA256_HEX], const tmb_checkpoint *ckpt, tmb_err *err)
{
    size_t n = ckpt->n_tensors, step = n / SAMPLES + (n % SAMPLES != 0);
    const tmb_tensor **order = malloc((n + 1) * sizeof *order);
    if (!order) return tmb_fail_memory(err, n * sizeof *order, "the order of tensors");
    for (size_t i = 0; i < n; i++)
        order[i] = &ckpt->tensors[i];
    qsort(order, n, sizeof *order, by_name);
    tmb_sha256_stream *s = NULL;
    tmb_status status = tmb_sha256_open(&s, err);
    if (!status) status = add_config(s, ckpt, err);
    for (size_t i = 0; !status && i < n; i++) {
        status = add_shape(s, order[i], err);
        if (!status && i % step == 0) status = add_values(s, ckpt, order[i], err);
    }
    if (!status) status = tmb_sha256_end(s, out, err);
    tmb_sha256_close(s);
    free(order);
    return status;
}
