/* layer_internal.h - what layer.c, layer_cpu.c and layer_cuda.c share. */
#ifndef TMB_INFER_LAYER_INTERNAL_H
#define TMB_INFER_LAYER_INTERNAL_H

#include "moe/infer/layer.h"

/* Where a layer runs; here is its own memory. */
typedef struct tmb_layer_backend {
    tmb_status (*open)(tmb_layer *layer, tmb_err *err);
    void (*close)(tmb_layer *layer);
    tmb_status (*set)(tmb_layer *layer, int expert, const tmb_layer_linear *gate,
                      const tmb_layer_linear *up, const tmb_layer_linear *down, tmb_err *err);
    tmb_status (*run)(tmb_layer *layer, const tmb_layer_batch *batch, tmb_err *err);
} tmb_layer_backend;

struct tmb_layer {
    tmb_layer_shape shape;
    tmb_cuda *device;
    const tmb_layer_backend *backend;
    void *here; /* the backend's */
    tmb_layer_expert *experts;
    bool *set;
    float *correction;
    int32_t *slot; /* [experts]: place among the experts that are here, -1: not here */
    int slots;
    int unset; /* experts that are here and were not set */
    uint64_t bytes;
};

/* For measurements: use packed weights that lie elsewhere on the device, experts in the order of
 * slots, all of one format; and one factor for all.  The layer then counts as set. */
void tmb_layer_gpu_borrow(tmb_layer *layer, void *up, void *down);
tmb_status tmb_layer_gpu_factor(tmb_layer *layer, float factor, tmb_err *err) TMB_CHECKED;

extern const tmb_layer_backend tmb_layer_cpu, tmb_layer_gpu;

#endif
