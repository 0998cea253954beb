/* layer.h - one MoE layer behind its router's logits, on this processor or on a GPU.
 *
 *     tmb_layer_open(&layer, &shape, experts, device, err);
 *     tmb_layer_set(layer, e, &gate, &up, &down, err);          each expert that is here, once
 *     tmb_layer_run(layer, &batch, err);                        any number of times
 *
 * y[t] = sum over the chosen experts of weight * down(act(gate(x[t]), up(x[t]))), plus the shared
 * expert's output.  Weights are packed once, from the parts of their format, and stay; experts, and
 * the two halves of one, may have different formats.  Activations are BF16: a format that also
 * rounds its input (nvfp4, fp8) is run as if weight-only.  Between the steps results are rounded to
 * BF16; sums are float32 in an order that the shape alone decides, so a token's bits do not depend
 * on the other tokens, on threads, or on the routing of anybody else.
 *
 * On a GPU every pointer of a batch is device memory and run only launches, on the stream of the
 * device: route, sort, tile lists, GEMM with gather and activation, GEMM, weighted sum.  What is
 * launched depends on the number of tokens alone, so one captured graph serves every routing. */
#ifndef TMB_INFER_LAYER_H
#define TMB_INFER_LAYER_H

#include "kernels/base/err.h"
#include "kernels/base/route.h"
#include "kernels/cuda/device.h"
#include "moe/format/format.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tmb_layer tmb_layer;

typedef enum tmb_glu {
    TMB_GLU_SWIGLU,  /* silu(gate) * up */
    TMB_GLU_CLAMPED, /* gpt-oss: (clamp(up, +-limit) + 1) * g * sigmoid(alpha g), g = min(gate,
                        limit) */
} tmb_glu;

typedef struct tmb_layer_shape {
    tmb_router router; /* correction: host memory, copied */
    int hidden, inter; /* multiples of 16 */
    tmb_glu activation;
    float alpha, limit; /* of TMB_GLU_CLAMPED */
    int max_tokens;     /* of one run; buffers are made for it */
    int threads;        /* of this processor; 0: all */
} tmb_layer_shape;

/* How an expert is stored.  NULL: BF16. */
typedef struct tmb_layer_expert {
    bool here;            /* false: another rank has it; what is routed to it is left out */
    const tmb_format *up; /* of gate_proj and up_proj */
    const tmb_format *down;
} tmb_layer_expert;

/* A weight [out, in] in the format's own parts, host memory, not kept. */
typedef struct tmb_layer_linear {
    const void *codes;  /* TMB_PART_CODES; of BF16 the values */
    const void *scales; /* TMB_PART_SCALE, NULL where there is none */
    float global;       /* TMB_PART_GLOBAL, 1 where there is none */
    const float *bias;  /* [out] f32; NULL: none */
} tmb_layer_linear;

/* experts [router.experts].  device NULL: this processor, any format.  On a GPU: capability 9.0,
 * and nvfp4, nvfp4-w4a16, mxfp4, int4, int4-g32 and BF16; TMB_EUNAVAILABLE names what is not there.
 * The device must outlive the layer. */
tmb_status tmb_layer_open(tmb_layer **out, const tmb_layer_shape *shape,
                          const tmb_layer_expert *experts, tmb_cuda *device,
                          tmb_err *err) TMB_CHECKED;
void tmb_layer_close(tmb_layer *layer);

/* gate, up [inter, hidden], down [hidden, inter]. */
tmb_status tmb_layer_set(tmb_layer *layer, int expert, const tmb_layer_linear *gate,
                         const tmb_layer_linear *up, const tmb_layer_linear *down,
                         tmb_err *err) TMB_CHECKED;

typedef struct tmb_layer_batch {
    int tokens;
    const uint16_t *x;        /* [tokens, hidden] bf16 */
    const float *logits;      /* [tokens, experts] f32; NULL: the next two say the choice */
    const int32_t *chosen;    /* [tokens, top_k] i32 */
    const float *weight;      /* [tokens, top_k] f32 */
    const uint16_t *shared;   /* [tokens, hidden] bf16, added; NULL: nothing is */
    const float *shared_gate; /* [tokens] f32, multiplies shared; NULL: 1 */
    uint16_t *y;              /* [tokens, hidden] bf16, not x */
} tmb_layer_batch;

/* TMB_EUSAGE before every expert that is here has been set, or for too many tokens. */
tmb_status tmb_layer_run(tmb_layer *layer, const tmb_layer_batch *batch, tmb_err *err) TMB_CHECKED;

/* Bytes that the packed weights and the buffers hold, where the layer runs. */
uint64_t tmb_layer_bytes(const tmb_layer *layer);

#ifdef __cplusplus
}
#endif
#endif
