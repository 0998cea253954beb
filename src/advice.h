/* advice.h - which shipped recipe suits a GPU and a checkpoint, and why. */
#ifndef TMB_SRC_ADVICE_H
#define TMB_SRC_ADVICE_H

#include "src/job.h"
#include "src/machine.h"

/* Weights may fill this share of GPU memory; the rest is for KV cache and activations. */
#define TMB_WEIGHT_SHARE 0.8

/* A recipe, planned for the checkpoint. */
typedef struct tmb_candidate {
    const char *recipe;
    bool possible; /* recipe and checkpoint work together */
    uint64_t bytes;
    double bits;
    bool fits;
    char runs[96]; /* how this GPU computes it */
    char why[256]; /* why it is not possible */
} tmb_candidate;

enum { TMB_CANDIDATES_MAX = 12 };

typedef struct tmb_advice {
    const char *generation; /* "Hopper (sm_90)" */
    const char *cores;      /* what its tensor cores compute */
    tmb_candidate candidates[TMB_CANDIDATES_MAX];
    int n_candidates;
    int chosen; /* index, -1: nothing fits */
    char reason[512];
    uint64_t budget;     /* bytes that weights may take; 0 unknown */
    uint64_t peak_bytes; /* host memory that the chosen recipe's quantize needs */
} tmb_advice;

/* job: open (checkpoint, inventory), or NULL for advice by the GPU alone. */
void tmb_advise(tmb_advice *advice, const tmb_machine *machine, tmb_job *job);

#endif
