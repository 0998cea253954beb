/* predict.h - what a row of logits says of the next token. */
#ifndef TMB_EVAL_PREDICT_H
#define TMB_EVAL_PREDICT_H

#include <stddef.h>

typedef struct tmb_prediction {
    double log_sum; /* ln of the sum of exp(logit): ln p(v) = logits[v] - log_sum */
    size_t top;     /* the id with the largest logit, the first of equals */
} tmb_prediction;

/* logits [vocab], vocab >= 1. */
tmb_prediction tmb_predict(const float *logits, size_t vocab);
/* Nats: sum of p (ln p - ln q) over the vocabulary, p from x, q from y. */
double tmb_prediction_kl(const float *x, const tmb_prediction *p, const float *y,
                         const tmb_prediction *q, size_t vocab);

#endif
