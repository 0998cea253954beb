/* builder.h - what the files of moe/model/ share while an inventory is made. */
#ifndef TMB_MODEL_BUILDER_H
#define TMB_MODEL_BUILDER_H

#include "moe/model/dims.h"
#include "moe/model/form.h"
#include "moe/model/match_rows.h"
#include "moe/model/model.h"

typedef struct tmb_builder {
    tmb_model *model;
    tmb_modules modules;
    tmb_matcher matcher;
    tmb_dims dims;
    int32_t mtp_from;  /* layers from here on are MTP; INT32_MAX: none */
    uint32_t capacity; /* of model->units */
    uint32_t n_note_slots;
    bool orientation_noted, halves_noted;
} tmb_builder;

/* Role, layer, whether it is kept and why: all of a unit that its class says.  *unit is cleared;
 * linear is what the caller found, and is taken back where the class forbids it. */
void tmb_unit_start(const tmb_builder *b, tmb_unit *unit, const tmb_class *class, bool linear);
tmb_status tmb_unit_add(tmb_builder *b, const tmb_unit *unit, tmb_err *err) TMB_CHECKED;

/* A sentence for plan.  printf; lost only without memory, which the caller notices elsewhere. */
tmb_status tmb_note(tmb_builder *b, tmb_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4), warn_unused_result));

/* Expand the stack that module is.  *taken: it was one; *used: the kinds that its units hold. */
tmb_status tmb_stack_expand(tmb_builder *b, uint32_t module, const tmb_parts *parts,
                            const tmb_class *class, bool *taken, unsigned *used,
                            tmb_err *err) TMB_CHECKED;

/* When all units are there: groups of experts, fused Linears, roles told by shapes, notes. */
tmb_status tmb_group_experts(tmb_builder *b, tmb_err *err) TMB_CHECKED;
tmb_status tmb_group_fuses(tmb_builder *b, tmb_err *err) TMB_CHECKED;
tmb_status tmb_guess_routers(tmb_builder *b, tmb_err *err) TMB_CHECKED;
tmb_status tmb_note_all(tmb_builder *b, tmb_err *err) TMB_CHECKED;

#endif
