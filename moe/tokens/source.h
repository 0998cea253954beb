/* source.h - where token ids come from, as the user names it: a file, a name for the tables, a
 * weight; and how sequences are made of it. */
#ifndef TMB_TOKENS_SOURCE_H
#define TMB_TOKENS_SOURCE_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"

#include <stdbool.h>
#include <stddef.h>

enum { TMB_SOURCES_MAX = 256, TMB_SOURCE_NAME_MAX = 64 };

typedef struct tmb_source {
    const char *name; /* letters, digits, '-', '_' and '.'; unique in a list */
    const char *path; /* .jsonl, .txt, .npy, .bin or .safetensors */
    double weight;    /* > 0, finite; the share of the sequences is weight / sum of weights */
    int line;         /* of the recipe; 0: from the command line */
} tmb_source;

/* How documents become sequences. */
typedef enum tmb_fit {
    TMB_FIT_WHOLE, /* a document is a sequence; longer than length (when not 0): cut off there */
    TMB_FIT_PAD,   /* a document is cut into pieces of length; the last may be shorter */
    TMB_FIT_PACK,  /* documents of a source are joined and cut into pieces of exactly length; what
                      is left at the end is dropped */
} tmb_fit;

/* --data: "NAME=PATH", "NAME=PATH:WEIGHT", "PATH" or "PATH:WEIGHT"; without a name the file's base
 * name without its ending, without a weight 1.  What stands behind the last ':' is a weight only if
 * it is a number, so a path may hold colons; a '=' belongs to the path when what is before it is no
 * name.  The texts go into the arena.  TMB_EUSAGE. */
tmb_status tmb_source_parse(tmb_source *out, const char *text, tmb_arena *arena,
                            tmb_err *err) TMB_CHECKED;

/* "0.25", "3", "1e-2": the whole text, > 0 and finite. */
bool tmb_weight_parse(const char *text, double *weight);
/* Is text [n] fit to be a name? */
bool tmb_source_name(const char *text, size_t n);

#endif
