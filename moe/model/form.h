/* form.h - in which form a weight is stored, told by its tensors' types and shapes alone.
 *
 * The config is never asked: what it says and what lies on disk may differ, and then the disk is
 * right. */
#ifndef TMB_MODEL_FORM_H
#define TMB_MODEL_FORM_H

#include "moe/model/model.h"
#include "moe/model/parts.h"

typedef struct tmb_form {
    tmb_stored stored; /* of a stack: n_experts and transposed set, no view */
    uint64_t out, in;  /* of the matrix; of a stack, of one expert's slab */
    unsigned used;     /* bit k: the tensor of kind k belongs to the weight */
    const char *broken;
} tmb_form;

/* The tensor that holds the weight itself: WEIGHT, PACKED, BLOCKS, FOREIGN or BARE.  TMB_KINDS
 * when there is none. */
tmb_kind tmb_form_main(const tmb_parts *parts);

/* Whether the main tensor has the rank of a matrix, or of a stack of matrices. */
bool tmb_form_is_matrix(const tmb_parts *parts, tmb_kind main);
bool tmb_form_is_stack(const tmb_parts *parts, tmb_kind main);

/* n_experts 0: a matrix.  transposed: the last two dimensions are [in, out].  Texts go to the arena. */
tmb_status tmb_form_read(tmb_form *out, const tmb_parts *parts, uint32_t n_experts,
                         bool transposed, tmb_arena *arena, tmb_err *err) TMB_CHECKED;

#endif
