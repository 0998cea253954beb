/* w4a16.cu - launches the grouped 4-bit GEMM: plan, permutation, one kernel a family of tiles. */
#include "config.h"
#include "kernels/cuda/sm90/w4_gemm.cuh"
#include "kernels/cuda/sm90/w4_permute.cuh"

#include <cuda_runtime.h>

namespace
{

struct launcher {
    cudaStream_t stream;
    cudaError_t error;
    int processors;

    template <class F, class... A>
    void operator()(F kernel, int grid, int threads, size_t shared, A... args)
    {
        if (error != cudaSuccess) return;
        cudaLaunchConfig_t config = {};
        config.gridDim = dim3((unsigned)grid);
        config.blockDim = dim3((unsigned)threads);
        config.dynamicSmemBytes = shared;
        config.stream = stream;
        cudaLaunchAttribute early;
        early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        early.val.programmaticStreamSerializationAllowed = 1;
        config.attrs = &early;
        config.numAttrs = 1;
        error = cudaLaunchKernelEx(&config, kernel, args...);
    }
};

template <int FAMILY, int GROUPS, int TILES, int HALVES, int CTAS>
void launch_family(launcher &launch, w4_args &p, const w4_lists &lists)
{
    using S = w4_shape<w4_family_n(FAMILY), GROUPS, TILES, HALVES>;
    constexpr int room = 226 * 1024 / CTAS - (CTAS > 1 ? 1024 : 0);
    constexpr int fit = (room - 64) / (S::stage + 16);
    static_assert(fit >= 2, "a ring needs two stages");
    if (p.count) {
        p.count = lists.counts + FAMILY;
        p.entries = lists.entries + (size_t)FAMILY * lists.capacity;
    }
    /* 70 to 120 KiB in flight a processor is best; more is slightly worse once there is decoding */
    p.stages = FAMILY == 0 && CTAS == 1 && fit > 3 ? 3 : fit < S::stages_max ? fit : S::stages_max;
    auto kernel = w4_gemm<FAMILY, GROUPS, TILES, HALVES, CTAS>;
    size_t shared = (size_t)p.stages * (S::stage + 16);
    if (launch.error == cudaSuccess)
        launch.error =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    launch(kernel, launch.processors * CTAS, S::threads, shared, p);
    p.first = false;
}

int capacity_of(const tmb_w4_gemm *g)
{
    int tiles = g->experts + g->rows / 256 + 1;
    return tiles;
}

int padded_cols(const tmb_w4_gemm *g)
{
    return (g->cols + 255) / 256 * 256;
}

uint64_t lists_bytes(const tmb_w4_gemm *g)
{
    return (256 + (uint64_t)W4_FAMILIES * capacity_of(g) * sizeof(w4_entry) + 255) / 256 * 256;
}

/* A tile of r rows is at most twice as wide: 17 rows take 32. */
uint64_t permuted_rows(const tmb_w4_gemm *g)
{
    return g->most > 16 ? 2 * (uint64_t)g->rows + 256 : 0;
}

/* Rows of weights that one wave of the processors takes in this tiling; the waste of the last wave
 * is what the choice between tilings is about. */
long long waves_rows(const tmb_w4_gemm *g, int processors, int rows)
{
    long long active = g->rows < g->experts ? g->rows : g->experts;
    long long units = active * ((g->out_rows + rows - 1) / rows);
    return (units + processors - 1) / processors * rows;
}

void launch_gemm(launcher &launch, w4_args p, const w4_lists &lists, const tmb_w4_gemm *g,
                 const uint16_t *permuted)
{
    const int n = launch.processors, most = g->most < 256 ? g->most : 256;
    const bool few = waves_rows(g, n, 256) < 3 * 256;
    const bool narrow = waves_rows(g, n, 128) < waves_rows(g, n, 192);
    w4_args wide = p;
    wide.x = permuted;
    /* The widest first: it has the longest tiles. */
    if (most > 224) launch_family<8, 2, 1, 1, 1>(launch, wide, lists);
    if (most > 192) launch_family<7, 2, 1, 1, 1>(launch, wide, lists);
    if (most > 160) launch_family<6, 2, 1, 1, 1>(launch, wide, lists);
    if (most > 128) launch_family<5, 2, 1, 1, 1>(launch, wide, lists);
    if (most > 96) {
        if (narrow)
            launch_family<4, 2, 1, 1, 1>(launch, wide, lists);
        else
            launch_family<4, 3, 1, 1, 1>(launch, wide, lists);
    }
    if (most > 64) {
        if (narrow)
            launch_family<3, 2, 1, 1, 1>(launch, wide, lists);
        else
            launch_family<3, 3, 1, 1, 1>(launch, wide, lists);
    }
    if (most > 32) {
        if (few)
            launch_family<2, 1, 1, 1, 2>(launch, wide, lists);
        else
            launch_family<2, 4, 1, 2, 1>(launch, wide, lists);
    }
    if (most > 16) {
        if (few)
            launch_family<1, 1, 1, 2, 2>(launch, wide, lists);
        else
            launch_family<1, 2, 2, 2, 1>(launch, wide, lists);
    }
    p.first = wide.first;
    if (waves_rows(g, n, 64) <=
        64) /* one tile a processor at most: only a deep ring keeps it busy */
        launch_family<0, 1, 1, 4, 1>(launch, p, lists);
    else if (few)
        launch_family<0, 1, 1, 2, 3>(launch, p, lists);
    else
        launch_family<0, 2, 2, 2, 1>(launch, p, lists);
}

} // namespace

extern "C" uint64_t tmb_w4_workspace(const tmb_w4_gemm *g)
{
    return lists_bytes(g) + permuted_rows(g) * (uint64_t)padded_cols(g) * 2;
}

extern "C" tmb_status tmb_w4_gemm_sm90(const tmb_w4_gemm *g, void *workspace, void *stream,
                                       tmb_err *err)
{
    if (g->cols <= 0 || g->cols % 16 || g->out_rows <= 0 || g->out_rows % 16 || g->experts <= 0 ||
        g->experts > W4_EXPERTS_MAX || g->rows < 0 || g->rows > (1 << 24) || g->most < 0)
        return tmb_fail(
            err, TMB_EINTERNAL,
            "4-bit GEMM: %d experts, %d rows, %d x %d: columns and output rows must be multiples"
            " of 16, experts at most %d",
            g->experts, g->rows, g->out_rows, g->cols, W4_EXPERTS_MAX);
    if (g->rows == 0) return TMB_OK;
    launcher launch = {(cudaStream_t)stream, cudaSuccess, 0};
    int device = 0;
    launch.error = cudaGetDevice(&device);
    if (launch.error == cudaSuccess)
        launch.error =
            cudaDeviceGetAttribute(&launch.processors, cudaDevAttrMultiProcessorCount, device);
    w4_lists lists = {(int *)workspace, (w4_entry *)((char *)workspace + 256), capacity_of(g)};
    uint16_t *permuted = (uint16_t *)((char *)workspace + lists_bytes(g));
    const bool few = g->rows <= W4_FEW_ROWS;
    if (!few) launch(w4_plan, 1, (g->experts + 31) / 32 * 32, 0, lists, g->offsets, g->experts);
    if (g->most > 16)
        launch(w4_permute, 4 * launch.processors, 256, 0, lists, permuted, g->x, g->gather, g->cols,
               padded_cols(g));
    w4_args p = {};
    p.weights = (const uint8_t *)g->weights;
    p.global = g->global;
    p.x = g->x;
    p.gather = g->gather;
    p.y = g->y;
    p.count = few ? nullptr : lists.counts;
    p.offsets = g->offsets;
    p.experts = g->experts;
    p.cols = g->cols;
    p.out_rows = g->out_rows;
    p.swiglu = g->swiglu;
    p.first = true;
    launch_gemm(launch, p, lists, g, permuted);
    if (launch.error != cudaSuccess)
        return tmb_fail(err, TMB_EUNAVAILABLE, "4-bit GEMM: %s", cudaGetErrorString(launch.error));
    return TMB_OK;
}
