/* cpu.h - the operation tables of this processor. */
#ifndef TMB_CPU_CPU_H
#define TMB_CPU_CPU_H

#include "kernels/base/nn.h"
#include "kernels/base/ops.h"

/* The best table this processor runs.  TOMBAC_CPU=ref|avx2|avx512|neon in the environment asks for
 * another; one that the processor or the build lacks is ignored.  Asks the processor each time
 * (microseconds in a virtual machine): call it once a job, not once a tile. */
const tmb_ops *tmb_cpu_ops(void);
/* A table by name, NULL when this build or processor lacks it. */
const tmb_ops *tmb_cpu_ops_named(const char *name);
/* The i-th table that can run here (the reference is 0), NULL at the end. */
const tmb_ops *tmb_cpu_ops_at(int i);

/* The same for the network operations; their AVX2 table also needs FMA. */
const tmb_nn *tmb_cpu_nn(void);
const tmb_nn *tmb_cpu_nn_at(int i);

#endif
