#include "config.h"
#include "kernels/cuda/sm90/gemm_launch.cuh"

void launch_nvfp4(launcher &launch, gemm_args p, const tile_lists &lists, const tmb_grouped *g,
                  const uint16_t *permuted)
{
    launch_four_bits<weights_nvfp4>(launch, p, lists, g, permuted);
}
