/* metric.c - the table behind metric.h. */
#include "config.h"
#include "moe/diagnose/metric.h"

#include <stddef.h>
#include <string.h>

#define MEAN    TMB_OVER_MEAN
#define LOW     TMB_WORSE_LOW
#define HIGH    TMB_WORSE_HIGH
#define NEITHER TMB_WORSE_NEITHER

static const tmb_metric_info table[TMB_METRICS] = {
    [TMB_M_SET_MATCH] = {"set_match", "set match", "share",
                         "positions whose set of chosen experts is unchanged", MEAN, LOW, false},
    [TMB_M_JACCARD] = {"jaccard", "Jaccard", "share", "experts in both sets, of those in either",
                       MEAN, LOW, false},
    [TMB_M_TOP1_MATCH] = {"top1_match", "top-1 match", "share",
                          "positions whose heaviest expert is unchanged", MEAN, LOW, false},
    [TMB_M_ORDER_CHANGE] = {"order_change", "order change", "share",
                            "positions with the same set in another order of weights", MEAN, HIGH,
                            false},
    [TMB_M_CHANGED] = {"experts_changed", "experts changed", "experts",
                       "experts a position lost, and as many gained", MEAN, HIGH, false},
    [TMB_M_GATE_TV] = {"gate_tv", "gate TV", "share",
                       "total variation between the weights of all experts", MEAN, HIGH, false},
    [TMB_M_GATE_LOST] = {"gate_lost", "gate lost", "share",
                         "the reference's weight on experts that are no longer chosen", MEAN, HIGH,
                         false},
    [TMB_M_ROUTER_KL] = {"router_kl", "router KL", "nats",
                         "KL between the softmax of both routers' logits", MEAN, HIGH, false},
    [TMB_M_ROUTER_COS] = {"router_cosine", "router cosine", "",
                          "cosine between both routers' logits", MEAN, LOW, false},
    [TMB_M_TOPK_MSE] = {"topk_mse", "top-k MSE", "logits^2",
                        "mean square change of the logits of the reference's experts", MEAN, HIGH,
                        false},
    [TMB_M_LOGIT_ERROR] = {"logit_error", "logit error", "share",
                           "relative change of the logits, centred over the experts", MEAN, HIGH,
                           false},
    [TMB_M_COMMON_MODE] = {"common_mode", "common mode", "share",
                           "of the squared change of logits, what all experts have in common", MEAN,
                           NEITHER, false},
    [TMB_M_GROUP_MATCH] = {"group_match", "group match", "share",
                           "positions whose allowed groups of experts are unchanged", MEAN, LOW,
                           false},
    [TMB_M_MARGIN_REF] = {"margin_ref", "margin, reference", "",
                          "distance between the last chosen and the best other expert", MEAN,
                          NEITHER, false},
    [TMB_M_MARGIN_OTHER] = {"margin", "margin", "", "the same of the quantized model", MEAN,
                            NEITHER, false},
    [TMB_M_TIES] = {"ties", "ties", "share",
                    "positions with a margin under one bf16 step in the reference", MEAN, NEITHER,
                    false},
    [TMB_M_EXACT_TIES] = {"exact_ties", "exact ties", "share",
                          "positions with a margin of exactly 0 in the reference", MEAN, NEITHER,
                          false},
    [TMB_M_TIE_FLIPS] = {"tie_flips", "tie flips", "share",
                         "positions changed at a margin under one bf16 step", MEAN, NEITHER, false},
    [TMB_M_NOISE_FLIPS] = {"noise_flips", "noise flips", "share",
                           "positions changed at a margin that the rerun crosses too", MEAN,
                           NEITHER, false},
    [TMB_M_REAL_FLIPS] = {"real_flips", "real flips", "share",
                          "positions changed at a margin that no noise crosses", MEAN, HIGH, false},
    [TMB_M_NOISE_MATCH] = {"noise_set_match", "noise floor", "share",
                           "set match of the reference with its own rerun", MEAN, NEITHER, false},
    [TMB_M_DRIFT] = {"drift", "drift", "x noise",
                     "changed sets as a multiple of those the rerun changes", MEAN, HIGH, false},
    [TMB_M_LOCAL_ROUTER] = {"local_router_match", "local (router)", "share",
                            "set match with the reference's exact router input", MEAN, LOW, false},
    [TMB_M_LOCAL_LAYER] = {"local_layer_match", "local (layer)", "share",
                           "set match with the reference's exact layer input", MEAN, LOW, false},
    [TMB_M_LOAD_KL] = {"load_kl", "load KL", "nats", "KL between both loads of the experts", MEAN,
                       HIGH, false},
    [TMB_M_LOAD_CV_REF] = {"load_cv_ref", "load CV, reference", "",
                           "standard deviation of tokens an expert, over their mean", MEAN, NEITHER,
                           false},
    [TMB_M_LOAD_CV] = {"load_cv", "load CV", "", "the same of the quantized model", MEAN, HIGH,
                       false},
    [TMB_M_GINI_REF] = {"gini_ref", "Gini, reference", "", "Gini coefficient of the load", MEAN,
                        NEITHER, false},
    [TMB_M_GINI] = {"gini", "Gini", "", "the same of the quantized model", MEAN, HIGH, false},
    [TMB_M_MAXVIO_REF] = {"maxvio_ref", "max violation, reference", "",
                          "largest load over the mean, less 1", MEAN, NEITHER, false},
    [TMB_M_MAXVIO] = {"maxvio", "max violation", "", "the same of the quantized model", MEAN, HIGH,
                      false},
    [TMB_M_DEAD_REF] = {"dead_ref", "dead experts, reference", "experts", "experts without a token",
                        TMB_OVER_SUM, NEITHER, false},
    [TMB_M_DEAD] = {"dead", "dead experts", "experts", "the same of the quantized model",
                    TMB_OVER_SUM, HIGH, false},
    [TMB_M_OVERLOADED_REF] = {"overloaded_ref", "overloaded, reference", "experts",
                              "experts with more than twice the mean load", TMB_OVER_SUM, NEITHER,
                              false},
    [TMB_M_OVERLOADED] = {"overloaded", "overloaded", "experts", "the same of the quantized model",
                          TMB_OVER_SUM, HIGH, false},
    [TMB_M_EP_REF] = {"ep_imbalance_ref", "EP imbalance, reference", "times",
                      "largest load of an expert-parallel rank over the mean", MEAN, NEITHER,
                      false},
    [TMB_M_EP] = {"ep_imbalance", "EP imbalance", "times", "the same of the quantized model", MEAN,
                  HIGH, false},
    [TMB_M_HIDDEN_ERROR] = {"hidden_error", "hidden error", "share",
                            "relative error of the hidden state behind the layer", TMB_OVER_LAST,
                            HIGH, true},
    [TMB_M_LOCAL_ERROR] = {"local_error", "local error", "share",
                           "the same when the layer is given the reference's input", MEAN, HIGH,
                           true},
    [TMB_M_KL] = {"kl", "KL", "nats", "KL between both predictions of the next token",
                  TMB_OVER_NONE, HIGH, false},
    [TMB_M_SAME_TOP1] = {"same_top1", "same top-1", "share",
                         "positions at which both name the same token first", TMB_OVER_NONE, LOW,
                         false},
    [TMB_M_PPL_REF] = {"perplexity_ref", "perplexity, reference", "",
                       "exp of the mean -ln p of the next token", TMB_OVER_NONE, NEITHER, false},
    [TMB_M_PPL] = {"perplexity", "perplexity", "", "the same of the quantized model", TMB_OVER_NONE,
                   HIGH, false},
    [TMB_M_BITS_REF] = {"bits_ref", "bits a token, reference", "bits",
                        "mean -log2 p of the next token", TMB_OVER_NONE, NEITHER, false},
    [TMB_M_BITS] = {"bits", "bits a token", "bits", "the same of the quantized model",
                    TMB_OVER_NONE, HIGH, false},
    [TMB_M_NOISE_KL] = {"noise_kl", "noise floor of KL", "nats",
                        "KL between the reference and its own rerun", TMB_OVER_NONE, NEITHER,
                        false},
};

const tmb_metric_info *tmb_metric_of(tmb_metric m)
{
    return &table[m];
}

bool tmb_metric_find(const char *name, tmb_metric *out)
{
    for (int m = 0; m < TMB_METRICS; m++)
        if (strcmp(table[m].name, name) == 0) {
            *out = (tmb_metric)m;
            return true;
        }
    return false;
}
