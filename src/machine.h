/* machine.h - what this machine has: processor, memory, disk, GPUs, or those asked for by name. */
#ifndef TMB_SRC_MACHINE_H
#define TMB_SRC_MACHINE_H

#include "kernels/base/err.h"
#include "kernels/cuda/driver.h"

#include <stdbool.h>

enum { TMB_GPUS_MAX = 64 };

typedef struct tmb_machine {
    char processor[128];
    int processors; /* that this process may use */
    uint64_t memory, memory_free;
    uint64_t disk_free; /* of the working directory */
    tmb_gpu gpus[TMB_GPUS_MAX];
    int n_gpus;
    bool asked;   /* the GPUs are those of --gpu */
    bool assumed; /* there is none: the GPU stands for a common one */
    char no_gpu[160];
} tmb_machine;

/* Bytes free in the working directory; 0 when the system does not tell. */
uint64_t tmb_machine_disk_free(void);

/* gpu: NULL, or what --gpu says: "h100", "8xB200", "sm90". */
tmb_status tmb_machine_look(tmb_machine *machine, const char *gpu, tmb_err *err) TMB_CHECKED;

#endif
