/* gather.h - the tensors of several shards in one array, under one table of names.
 *
 * What safetensors.c and checkpoint.c share: a shard's header is parsed straight into the arrays
 * of the checkpoint, so nothing is held twice and a name in two shards is found on the way. */
#ifndef TMB_IO_GATHER_H
#define TMB_IO_GATHER_H

#include "moe/io/names.h"
#include "moe/io/safetensors.h"

typedef struct tmb_gather {
    tmb_tensor *tensors; /* moves while it grows */
    size_t n, room;
    tmb_names names;
    uint32_t shard;           /* the one being read */
    const char *const *files; /* what messages call each shard, up to this one */
} tmb_gather;

/* The N header bytes of the open file fd, malloc'ed, and the size of the data behind them. */
tmb_status tmb_header_load(char **text, size_t *n, uint64_t *data_bytes, int fd,
                           uint64_t file_bytes, const char *name, tmb_err *err) TMB_CHECKED;
/* Parse text [n], which becomes *out's, and append its tensors to g, sorted by offset.
 * out->tensors stays NULL: the array may still move.  On failure g is only fit to be freed. */
tmb_status tmb_header_gather(tmb_header *out, tmb_gather *g, char *text, size_t n,
                             uint64_t data_bytes, tmb_err *err) TMB_CHECKED;
void tmb_gather_free(tmb_gather *g);

#endif
