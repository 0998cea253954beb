/* safetensors.h - one shard: the strict header reader.
 *
 * The file is   8 bytes little-endian N | N bytes UTF-8 JSON header | data buffer.
 * The header is   {"NAME": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [b, e]}, …,
 *                  "__metadata__": {"key": "value"}}   with trailing spaces allowed.
 * (safetensors README, "Format"; its Rust Metadata::validate.)
 *
 * One pass, no DOM; names stay in the header buffer.  Refused, with file and byte: fewer than 8
 * bytes; N > 100,000,000 or past the end; a first byte other than '{'; bad UTF-8, bad JSON,
 * unknown or repeated keys, a NUL or a control character in a name, an empty name, a name over
 * 4096 bytes; unknown dtypes; rank over 8; metadata that is not string to string; duplicate
 * names; sizes that overflow, are no whole bytes, or differ from e - b; holes, overlaps; a
 * data buffer that does not end with the file. */
#ifndef TMB_IO_SAFETENSORS_H
#define TMB_IO_SAFETENSORS_H

#include "kernels/base/dtype.h"
#include "kernels/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum { TMB_RANK_MAX = 8, TMB_NAME_MAX = 4096 };
#define TMB_HEADER_MAX 100000000u

typedef struct tmb_tensor {
    const char *name;      /* NUL-terminated, owned by the header it came from */
    const uint64_t *shape; /* [rank], owned likewise; NULL for rank 0 */
    uint64_t begin;        /* offset in the shard's data buffer */
    uint64_t bytes;
    uint32_t shard; /* index into tmb_checkpoint.shards; 0 from the bare header reader */
    uint8_t dtype;  /* tmb_dtype */
    uint8_t rank;
} tmb_tensor;

/* What a header holds.  Tensors are in the order of their offsets. */
typedef struct tmb_header {
    tmb_tensor *tensors;
    size_t n_tensors;
    uint64_t *dims;        /* pool that the shapes point into */
    char *text;            /* the header's bytes, names unescaped in place */
    uint64_t header_bytes; /* N */
    uint64_t data_bytes;
} tmb_header;

/* Read the header of the open file fd, whose size is file_bytes, with pread.  name is what
 * messages call it.  On success *out is the caller's, for tmb_header_free(). */
tmb_status tmb_header_read(tmb_header *out, int fd, uint64_t file_bytes, const char *name,
                           tmb_err *err) TMB_CHECKED;
/* The same from text [n] in memory that claims a data buffer of data_bytes; text becomes the
 * header's (malloc'ed), also on failure. */
tmb_status tmb_header_parse(tmb_header *out, char *text, size_t n, uint64_t data_bytes,
                            const char *name, tmb_err *err) TMB_CHECKED;
void tmb_header_free(tmb_header *header);

/* The header text of a shard to be written: "{…}" padded with spaces so that 8 + N is a multiple
 * of 8, "__metadata__": {"format": "pt"} first, tensors in the order given, offsets ascending from
 * 0. Names are escaped.  *text is malloc'ed, the caller's; *n its length.  TMB_EDATA when it would
 * exceed TMB_HEADER_MAX. */
tmb_status tmb_header_format(char **text, size_t *n, const tmb_tensor *tensors, size_t n_tensors,
                             const char *name, tmb_err *err) TMB_CHECKED;
/* Bytes that tensor adds to a header, comma included; an upper bound is exact here. */
size_t tmb_header_entry_bytes(const tmb_tensor *tensor, uint64_t begin);

#endif
