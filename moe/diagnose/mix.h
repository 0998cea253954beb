/* mix.h - models put together from parts of two: the reference and the other one.
 *
 * A mixture is a variant for moe/diagnose/run.h.  It runs the model of one side (its base) and
 * takes some parts of some layers from the other side through hooks: weights as that side decodes
 * or encodes them, its rounding of inputs and cache, biases, corrections and inner norms.  A Linear
 * behind a norm of a layer is taken with that norm: column c of its weight is multiplied by
 * norm_other[c] / norm_base[c].  The embedding, and a head tied to it, are the base's. */
#ifndef TMB_DIAGNOSE_MIX_H
#define TMB_DIAGNOSE_MIX_H

#include "moe/diagnose/part.h"
#include "moe/diagnose/run.h"

enum { TMB_SIDE_REF, TMB_SIDE_OTHER, TMB_SIDES };

/* Two sides that are known to fit.  Shared by all mixtures of them, and not changed by them. */
typedef struct tmb_mixer {
    const tmb_variant *side[TMB_SIDES]; /* borrowed */
    const tmb_model *model[TMB_SIDES];
    uint8_t *part[TMB_SIDES];   /* [n_units] tmb_mix_part */
    uint32_t *twin[TMB_SIDES];  /* [n_units] index in the other side's model, TMB_NONE */
    uint8_t *behind[TMB_SIDES]; /* [n_units] 0: no norm of a layer, else 1 + half */
    float **norm[TMB_SIDES];    /* [2 * layers] of layer l, half h at 2 l + h: [hidden]; NULL */
    bool *scaled;               /* [2 * layers] the two sides' norms differ */
    int layers;
    size_t hidden;
    bool same_model; /* one model under two sets of hooks */
    tmb_arena arena;
} tmb_mixer;

/* TMB_EUSAGE when the two are no pair, naming a Linear that one lacks or has in another shape. */
tmb_status tmb_mixer_open(tmb_mixer *out, const tmb_variant *ref, const tmb_variant *other,
                          tmb_err *err) TMB_CHECKED;
void tmb_mixer_close(tmb_mixer *mixer);

enum { TMB_MIX_OWN_ROUTES = -1 };

typedef struct tmb_mix {
    const tmb_mixer *mixer;
    int base;       /* TMB_SIDE_… */
    unsigned guest; /* bit p: tmb_mix_part p comes from the side that is not the base */
    int layer;      /* in this layer alone; -1: in all */
    int expert;     /* of routed experts this one alone; -1: all */
    int routes; /* run the experts that the reference (0) or variant i (1 + i) of the list chose;
                   TMB_MIX_OWN_ROUTES */
} tmb_mix;

/* A variant whose ctx is mix, which must outlive it. */
tmb_variant tmb_mix_variant(const char *name, const tmb_mix *mix);

/* y [rows, in] of a unit of the base's model as a side has it.  reader: of the base's model; own:
 * of tmb_mix_variant()'s open.  Any thread. */
tmb_status tmb_mix_rows(void *own, int side, tmb_reader *reader, const tmb_unit *unit, uint64_t row,
                        size_t rows, float *y, tmb_err *err) TMB_CHECKED;
/* Those rows of the guest's, as behind the base's norm. */
void tmb_mix_take_norm(const void *own, const tmb_unit *unit, size_t rows, float *y);
/* What a side makes of rows that enter units of the base's model: as tmb_hooks.activation. */
tmb_status tmb_mix_round(void *own, int side, const tmb_linear_seen *seen, float *y, bool *changed,
                         tmb_err *err) TMB_CHECKED;
/* The hooks of a side, as the mixture opened them. */
const tmb_hooks *tmb_mix_hooks(const void *own, int side);

#endif
