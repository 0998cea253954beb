/* docs.h - a source, opened: documents by number; internal to moe/tokens.
 *
 * The sandwich of data.c: an interface, one implementation for texts and lines (docs_text.c), one
 * for arrays (docs_array.c), and docs.c that chooses by the ending. */
#ifndef TMB_TOKENS_DOCS_H
#define TMB_TOKENS_DOCS_H

#include "moe/tokens/data.h"
#include "moe/tokens/tokenizer.h"

#include <sys/stat.h>

/* What all sources of a run share. */
typedef struct tmb_docs_context {
    const tmb_data_options *o;
    tmb_tokenizer *tokenizer; /* opened when the first text comes */
    tmb_encoder *encoder;
} tmb_docs_context;

typedef struct tmb_docs tmb_docs;
struct tmb_docs {
    const char *path;
    tmb_docs_context *context;
    int fd;
    uint64_t file_bytes;
    uint64_t n; /* documents */
    /* Make document i the one at hand; *tokens it has. */
    tmb_status (*open_doc)(tmb_docs *d, uint64_t i, uint64_t *tokens, tmb_err *err);
    /* out [count] = its tokens from `from` on, each checked against the model's vocabulary. */
    tmb_status (*read)(tmb_docs *d, uint64_t from, size_t count, int32_t *out, tmb_err *err);
    void (*close)(tmb_docs *d);
    void *own; /* the implementation's */
};

tmb_status tmb_docs_open(tmb_docs *d, const char *path, tmb_docs_context *context,
                         tmb_err *err) TMB_CHECKED;
void tmb_docs_close(tmb_docs *d);

/* The implementations; d has path, context, fd and file_bytes. */
tmb_status tmb_docs_jsonl(tmb_docs *d, tmb_err *err) TMB_CHECKED;
tmb_status tmb_docs_txt(tmb_docs *d, tmb_err *err) TMB_CHECKED;
tmb_status tmb_docs_npy(tmb_docs *d, tmb_err *err) TMB_CHECKED;
tmb_status tmb_docs_bin(tmb_docs *d, tmb_err *err) TMB_CHECKED;
tmb_status tmb_docs_safetensors(tmb_docs *d, tmb_err *err) TMB_CHECKED;

/* The tokenizer and its encoder, opened the first time; TMB_EDATA when there is none or when it is
 * of another model. */
tmb_status tmb_docs_encoder(tmb_docs *d, tmb_err *err) TMB_CHECKED;
/* ids [n], of document i from token `from` on, all below the model's vocabulary and none negative.
 */
tmb_status tmb_docs_check(const tmb_docs *d, uint64_t i, uint64_t from, const int32_t *ids,
                          size_t n, tmb_err *err) TMB_CHECKED;

#endif
