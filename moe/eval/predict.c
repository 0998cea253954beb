/* predict.c - what a row of logits says of the next token. */
#include "config.h"
#include "moe/eval/predict.h"

#include <math.h>

tmb_prediction tmb_predict(const float *logits, size_t vocab)
{
    tmb_prediction s = {0};
    for (size_t v = 1; v < vocab; v++)
        if (logits[v] > logits[s.top]) s.top = v;
    double sum = 0, most = (double)logits[s.top];
    for (size_t v = 0; v < vocab; v++)
        sum += exp((double)logits[v] - most);
    s.log_sum = most + log(sum);
    return s;
}

double tmb_prediction_kl(const float *x, const tmb_prediction *p, const float *y,
                         const tmb_prediction *q, size_t vocab)
{
    double kl = 0;
    for (size_t v = 0; v < vocab; v++) {
        double a = (double)x[v] - p->log_sum, b = (double)y[v] - q->log_sum;
        kl += exp(a) * (a - b);
    }
    return kl;
}
