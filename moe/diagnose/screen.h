/* screen.h - what of two models differs at all, found by comparing weights and roundings before
 * anything is run.
 *
 * A difference is between functions, as far as weights tell: a Linear behind a norm is compared
 * with that norm (mix.h).  Errors are of weights, ||other - ref|| / ||ref||. */
#ifndef TMB_DIAGNOSE_SCREEN_H
#define TMB_DIAGNOSE_SCREEN_H

#include "moe/diagnose/mix.h"

/* One part of one layer. */
typedef struct tmb_screened {
    bool own;             /* some number of its own is stored otherwise */
    bool stored;          /* one of its own, or of the norm in front */
    bool weight;          /* some number differs as it takes effect */
    bool input;           /* inputs (of the cache part: keys or values) are rounded otherwise */
    bool inputs_of_other; /* the other rounds them; else only the reference does */
    double error2, norm2; /* squares */
    const tmb_format *looks_like; /* the other's weights are the reference's rounded to this format,
                                     whatever they are stored as; NULL */
} tmb_screened;

typedef struct tmb_screened_expert {
    double error2, norm2;
    bool dead; /* its down projection is all zero in the other, and not in the reference */
} tmb_screened_expert;

typedef struct tmb_screen {
    int layers;
    size_t n_experts;
    tmb_screened *parts;          /* [layers + 1, TMB_MIX_PARTS]; the last row: outside of layers */
    tmb_screened_expert *experts; /* [layers, n_experts] */
    void *memory;
} tmb_screen;

static inline tmb_screened *tmb_screen_at(const tmb_screen *s, int layer, tmb_mix_part part)
{
    return &s->parts[(size_t)(layer < 0 ? s->layers : layer) * TMB_MIX_PARTS + part];
}

/* Whether a part differs in its effect there. */
static inline bool tmb_screen_differs(const tmb_screened *s)
{
    return s->weight || s->input;
}

static inline double tmb_screen_error(double error2, double norm2)
{
    return norm2 > 0 ? __builtin_sqrt(error2 / norm2) : error2 > 0 ? 1 : 0;
}

/* Reads every weight of both once, in `threads` threads.  The result does not depend on them. */
tmb_status tmb_screen_run(tmb_screen *out, const tmb_mixer *mixer, int threads,
                          tmb_err *err) TMB_CHECKED;
void tmb_screen_free(tmb_screen *screen);

#endif
