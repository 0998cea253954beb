/* trace.h - what a forward pass computes, as a safetensors file.
 *
 * For sequences of one length B x T, else for all their N tokens in a row:
 *   input_ids          I64 [B, T]     or [N]
 *   sequence_begin     I64            [sequences + 1], when lengths differ
 *   logits             F32 [B, T, V]  or [N, V]
 *   hidden.I           F32 [B, T, H]  or [N, H]: behind decoder layer I, before the final norm
 *   router_logits.I    F32 [N, E]     the router's output, with its bias if it has one
 *   router_topk.I      I64 [N, K]     chosen experts, ascending
 *   router_weight.I    F32 [N, K]     what multiplies each of them, all scaling included
 * The file is complete or not there: it is written beside its name and renamed. */
#ifndef TMB_INFER_TRACE_H
#define TMB_INFER_TRACE_H

#include "kernels/base/progress.h"
#include "moe/infer/forward.h"

enum { TMB_TRACE_LOGITS = 1, TMB_TRACE_ROUTER = 2, TMB_TRACE_HIDDEN = 4 };

typedef struct tmb_trace_input {
    const int32_t *ids;  /* [begin[sequences]] */
    const size_t *begin; /* [sequences + 1] */
    size_t sequences;
} tmb_trace_input;

typedef struct tmb_trace_result {
    uint64_t tokens, bytes; /* of the file */
    uint64_t ties; /* tokens and routers whose last chosen expert and best other one are level */
} tmb_trace_result;

/* Run the model over the input and write `what` to path, replacing what is there.  Holds hidden
 * states of all tokens, and what tmb_decoder_bytes() tells for a few thousand tokens. */
tmb_status tmb_trace(tmb_decoder *d, const tmb_trace_input *input, unsigned what, const char *path,
                     const tmb_watch *watch, tmb_trace_result *result, tmb_err *err) TMB_CHECKED;

#endif
