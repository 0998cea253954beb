/* gemm_launch.cuh - which kernels a GEMM launches: one for each family of tiles that can occur. */
#ifndef TMB_CUDA_SM90_GEMM_LAUNCH_CUH
#define TMB_CUDA_SM90_GEMM_LAUNCH_CUH

#include "kernels/cuda/choose.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sm90/gemm.cuh"

/* One file a format compiles launch_gemm() for it. */
typedef void gemm_launch(launcher &launch, gemm_args p, const tile_lists &lists,
                         const tmb_grouped *g, const uint16_t *permuted);
gemm_launch launch_nvfp4, launch_mxfp4, launch_int4, launch_bf16;

template <class F, int FAMILY, int GROUPS, int TILES, int HALVES, int CTAS>
void launch_family(launcher &launch, gemm_args &p, const tile_lists &lists)
{
    using S = gemm_shape<F, family_n(FAMILY), GROUPS, TILES, HALVES>;
    constexpr int room = 226 * 1024 / CTAS - (CTAS > 1 ? 1024 : 0);
    constexpr int fit = (room - 64) / (S::stage + 16);
    static_assert(fit >= 2, "a ring needs two stages");
    if (p.count) {
        p.count = lists.counts + FAMILY;
        p.entries = lists.entries + (size_t)FAMILY * lists.capacity;
    }
    /* 70 to 120 KiB in flight a processor is best; more is slightly worse once there is decoding */
    p.stages = FAMILY == 0 && CTAS == 1 && fit > 3 && TILES > 1 ? 3
               : fit < S::stages_max                            ? fit
                                                                : S::stages_max;
    auto kernel = grouped_gemm<F, FAMILY, GROUPS, TILES, HALVES, CTAS>;
    const size_t shared = (size_t)p.stages * (S::stage + 16);
    launch.allow(kernel, shared);
    launch(kernel, dim3((unsigned)(launch.processors * CTAS)), S::threads, shared, p);
    p.first = false;
}

/* 192 weight rows a block, or 128. */
template <class F, int FAMILY, bool THREE>
void launch_either(launcher &launch, gemm_args &p, const tile_lists &lists, bool narrow)
{
    if (THREE && !narrow)
        launch_family<F, FAMILY, THREE ? 3 : 2, 1, 1, 1>(launch, p, lists);
    else
        launch_family<F, FAMILY, 2, 1, 1, 1>(launch, p, lists);
}

/* The families above 64 tokens, the widest first: it has the longest tiles. */
template <class F, bool THREE>
void launch_wide(launcher &launch, gemm_args &p, const tile_lists &lists, int most, bool narrow)
{
    if (most > 224) launch_family<F, 8, 2, 1, 1, 1>(launch, p, lists);
    if (most > 192) launch_family<F, 7, 2, 1, 1, 1>(launch, p, lists);
    if (most > 160) launch_either<F, 6, THREE>(launch, p, lists, narrow);
    if (most > 128) launch_either<F, 5, THREE>(launch, p, lists, narrow);
    if (most > 96) launch_either<F, 4, THREE>(launch, p, lists, narrow);
    if (most > 64) launch_either<F, 3, THREE>(launch, p, lists, narrow);
}

/* 4-bit weights: a blob is small, so a stage holds several. */
template <class F>
void launch_four_bits(launcher &launch, gemm_args p, const tile_lists &lists, const tmb_grouped *g,
                      const uint16_t *permuted)
{
    const int widest = tmb_widest_tile(g->rows, g->experts),
              most = g->most < widest ? g->most : widest;
    const tmb_tiling t = tmb_choose(g, launch.processors);
    gemm_args wide = p;
    wide.x = permuted;
    launch_wide<F, true>(launch, wide, lists, most, t.narrow);
    if (most > 32) {
        if (t.few)
            launch_family<F, 2, 1, 1, 1, 2>(launch, wide, lists);
        else
            launch_family<F, 2, 4, 1, 2, 1>(launch, wide, lists);
    }
    if (most > 16) {
        if (t.few)
            launch_family<F, 1, 1, 1, 2, 2>(launch, wide, lists);
        else
            launch_family<F, 1, 2, 2, 2, 1>(launch, wide, lists);
    }
    p.first = wide.first;
    if (t.deep)
        launch_family<F, 0, 1, 1, 4, 1>(launch, p, lists);
    else if (t.few)
        launch_family<F, 0, 1, 1, 2, 3>(launch, p, lists);
    else
        launch_family<F, 0, 2, 2, 2, 1>(launch, p, lists);
}

/* BF16: a blob is 16 KiB, and one in a row block is a stage's worth. */
template <class F>
void launch_sixteen_bits(launcher &launch, gemm_args p, const tile_lists &lists,
                         const tmb_grouped *g, const uint16_t *permuted)
{
    const int widest = tmb_widest_tile(g->rows, g->experts),
              most = g->most < widest ? g->most : widest;
    gemm_args wide = p;
    wide.x = permuted;
    launch_wide<F, false>(launch, wide, lists, most, true);
    if (most > 32) launch_family<F, 2, 2, 1, 1, 1>(launch, wide, lists);
    if (most > 16) launch_family<F, 1, 2, 1, 1, 1>(launch, wide, lists);
    p.first = wide.first;
    launch_family<F, 0, 1, 1, 1, 2>(launch, p, lists);
}

#endif
