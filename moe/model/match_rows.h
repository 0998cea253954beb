/* match_rows.h - from a tensor's name to its role, layer and expert.
 *
 * A checkpoint of 369,000 tensors has some forty kinds of names that differ only in numbers, so
 * rows are matched once for each kind and the answer is kept. */
#ifndef TMB_MODEL_MATCH_ROWS_H
#define TMB_MODEL_MATCH_ROWS_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"
#include "moe/io/checkpoint.h"
#include "moe/model/arch.h"
#include "moe/model/words.h"

typedef struct tmb_class {
    tmb_role role;  /* MTP only by name; the layer number is the caller's to compare */
    tmb_role inner; /* of an MTP layer's tensor: what it would be in an ordinary layer */
    unsigned flags; /* TMB_ARCH_… */
    bool known;     /* a row matched */
    int32_t layer, expert; /* -1: none */
} tmb_class;

typedef struct tmb_matcher {
    const tmb_arch *arch;
    const char *prefix;
    tmb_arena *arena;
    tmb_words kinds; /* names with one mark for every number */
    struct tmb_kind_of_name *answers;
    uint32_t capacity;
} tmb_matcher;

/* name [n]: a module name, without ".weight". */
tmb_status tmb_classify(tmb_matcher *m, const char *name, size_t n, tmb_class *out,
                        tmb_err *err) TMB_CHECKED;
void tmb_matcher_close(tmb_matcher *m);

/* Whether a row's pattern matches the whole name [n]; prefix and ".weight" already removed. */
bool tmb_pattern_match(const char *pattern, const char *name, size_t n);

/* The prefix under which the layers lie: one of the architecture's when it fits, else the one
 * that most tensors (those of experts first) have before "layers.0." or the like. */
tmb_status tmb_prefix_find(const char **out, const tmb_arch *arch, const tmb_checkpoint *ckpt,
                           tmb_arena *arena, tmb_err *err) TMB_CHECKED;

#endif
