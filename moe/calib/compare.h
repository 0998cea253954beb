/* compare.h - how far apart two sets of data are, by what a layer's statistics say of them.
 *
 * The measure is the symmetric Kullback-Leibler divergence in nats, J = sum (p - q) ln(p / q), of
 * counts with half a count added to every cell that either set uses.  Two samples of one source do
 * not give 0: with K cells J is about (K - 1) (1/n + 1/m) for n and m independent observations,
 * which is its `noise`.  Tokens are taken as independent, values of one token as one observation;
 * tokens of a sequence are less than that, so real noise is some times the figure.  Values are
 * compared by octaves. */
#ifndef TMB_CALIB_COMPARE_H
#define TMB_CALIB_COMPARE_H

#include "moe/calib/file.h"

typedef struct tmb_divergence {
    double j, noise; /* nats; 0 when either side has no counts and so says nothing */
} tmb_divergence;

/* a, b [n] counts of observed [2] independent things each. */
tmb_divergence tmb_divergence_of(const uint64_t *a, const uint64_t *b, size_t n,
                                 const uint64_t observed[2]);

/* Whether a divergence says that the sets differ in kind: J above 0.02 nats and four times noise.
 */
bool tmb_divergence_matters(tmb_divergence d);

typedef struct tmb_layer_shift {
    int32_t layer;
    bool router;
    uint64_t tokens[2];    /* the router's, or those of the first site */
    tmb_divergence load;   /* of experts */
    tmb_divergence logits; /* of router logits, sign and size */
    tmb_divergence margin; /* of margins */
    tmb_divergence values; /* the worst site's |x|, all its entries together */
    const char *site;      /* its name, borrowed from a */
    uint32_t starved[2];   /* experts below a's min_tokens */
    double amax;           /* the largest ratio of a site's amax in b to that in a: above 1, the
                              data of b goes where a's did not */
    bool matters;
} tmb_layer_shift;

/* TMB_EDATA when the layers have different sites or routers. */
tmb_status tmb_layer_compare(const tmb_stats_layer *a, const tmb_stats_layer *b,
                             uint64_t min_tokens, tmb_layer_shift *out, tmb_err *err) TMB_CHECKED;

#endif
