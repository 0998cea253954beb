/* bind.h - finding the tensors that a forward pass needs, and checking their shapes.
 * For moe/infer/ alone. */
#ifndef TMB_INFER_BIND_H
#define TMB_INFER_BIND_H

#include "moe/infer/decoder.h"
#include "moe/io/names.h"

struct tmb_binder {
    tmb_decoder *d;
    tmb_decoder_layer *layer;
    char name[TMB_NAME_MAX]; /* of the module looked for */
    tmb_err *err;
};

/* b->name = … */
void tmb_bind_name(tmb_binder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* … "PREFIXlayers.3.BLOCK.LEAF" */
void tmb_bind_part(tmb_binder *b, const char *block, const char *leaf);
/* TMB_EDATA: b->name + ending is not there. */
tmb_status tmb_bind_missing(const tmb_binder *b, const char *ending);
bool tmb_bind_is_plain(const tmb_tensor *t); /* F32, F16, BF16 */
const char *tmb_bind_shard(const tmb_binder *b, const tmb_tensor *t);

/* The tensor b->name + ending of n numbers; *v stays empty when it is not there. */
tmb_status tmb_bind_find(tmb_binder *b, tmb_vector *v, const char *ending, size_t n) TMB_CHECKED;
/* … it must be there. */
tmb_status tmb_bind_vector(tmb_binder *b, tmb_vector *v, const char *ending, size_t n) TMB_CHECKED;
/* The same of a norm: its weight, which the architecture may store as a distance from one. */
tmb_status tmb_bind_norm(tmb_binder *b, tmb_vector *v, size_t n) TMB_CHECKED;
/* The Linear b->name with its bias, if it has one. */
tmb_status tmb_bind_weight(tmb_binder *b, tmb_weight *w, size_t out, size_t in) TMB_CHECKED;
/* … of block and leaf. */
tmb_status tmb_bind_linear(tmb_binder *b, tmb_weight *w, const char *block, const char *leaf,
                           size_t out, size_t in) TMB_CHECKED;
/* w = the unit, whose shape must be that. */
tmb_status tmb_bind_unit(tmb_binder *b, tmb_weight *w, const tmb_unit *u, size_t out,
                         size_t in) TMB_CHECKED;
/* What the block of a layer's first half is called: "self_attn". */
const char *tmb_block_name(const tmb_decoder *d);
/* A key of the text config, NULL when it is not there. */
const tmb_json *tmb_bind_key(const tmb_binder *b, const char *key);

/* --- bind_mlp.c: the second half of binder->layer. */
tmb_status tmb_bind_mlp(tmb_binder *b) TMB_CHECKED;

#endif
