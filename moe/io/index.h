/* index.h - model.safetensors.index.json: which shard holds which tensor.
 *
 *   {"metadata": {…}, "weight_map": {"TENSOR": "model-00001-of-00002.safetensors", …}}
 *
 * One pass, no DOM, names stay in the text.  `metadata` is any object, other keys are skipped.
 * Refused: a tensor named twice; a shard that is no plain file name ending in .safetensors (a
 * slash, a backslash, a control character, a dot in front). */
#ifndef TMB_IO_INDEX_H
#define TMB_IO_INDEX_H

#include "kernels/base/err.h"

#include <stddef.h>
#include <stdint.h>

#define TMB_INDEX_NAME "model.safetensors.index.json"
#define TMB_INDEX_MAX  (512u << 20)

typedef struct tmb_index_entry {
    const char *name; /* of a tensor */
    uint32_t shard;   /* index into tmb_index.shards */
} tmb_index_entry;

typedef struct tmb_index {
    tmb_index_entry *entries; /* in the order of the file */
    size_t n_entries;
    const char **shards; /* distinct, sorted */
    size_t n_shards;
    char *text;
} tmb_index;

/* text [n], malloc'ed, becomes the index's, also on failure; file is what messages call it. */
tmb_status tmb_index_parse(tmb_index *out, char *text, size_t n, const char *file,
                           tmb_err *err) TMB_CHECKED;
void tmb_index_free(tmb_index *index);

#endif
