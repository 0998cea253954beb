/* eval.h - how well a model predicts text, and how far it is from a reference.
 *
 * A sequence is run alone, from position 0.  Its first id is not scored; each other is, by what the
 * model says at the position before.  For one source of data, over its scored positions:
 *   nll         mean of -ln p(next id); perplexity = exp(nll)
 *   KL          mean of sum p_ref (ln p_ref - ln p) over the vocabulary, in nats
 *   same top-1  share of positions at which both name the same id first
 *   flips       share at which one of them names the right id first and the other does not
 *               (Dutta et al., "Accuracy is Not All You Need", 2024, of tokens instead of answers)
 * The ± is one standard error of the mean with sequences as the units that were drawn:
 *   sqrt(S / (S - 1) * sum (x_s - mean n_s)^2) / sum n_s      (Cochran, Sampling Techniques, 6.3)
 * since positions of one sequence are not independent; NaN for a single sequence. */
#ifndef TMB_EVAL_EVAL_H
#define TMB_EVAL_EVAL_H

#include "kernels/base/progress.h"
#include "moe/infer/observe.h"
#include "moe/tokens/data.h"

typedef struct tmb_mean {
    double mean, error; /* ± one standard error */
} tmb_mean;

typedef struct tmb_eval_row {
    const char *source; /* borrowed from the data; NULL: all together */
    uint64_t sequences, scored;
    tmb_mean nll;
    tmb_mean ref_nll, kl, same, flips; /* with a reference */
} tmb_eval_row;

typedef struct tmb_eval_options {
    int threads;       /* 0: one a processor */
    bool exact_inputs; /* weights as stored, but activations and cache not rounded */
    const tmb_hooks *hooks; /* of the model, in place of its own rounding: moe/fly/fly.h; NULL */
    tmb_watch watch;
} tmb_eval_options;

/* rows [data->n_sources + 1]: one a source, the last of all; the caller's.  ref may be NULL.  Both
 * models are run with the rounding of their formats (acts.h).  TMB_EUSAGE when the vocabularies
 * differ.  Memory: the hidden states of all tokens for both, 4 bytes a token and channel. */
tmb_status tmb_eval(const tmb_model *model, const tmb_model *ref, const tmb_data *data,
                    const tmb_eval_options *options, tmb_eval_row *rows, tmb_err *err) TMB_CHECKED;

#endif
