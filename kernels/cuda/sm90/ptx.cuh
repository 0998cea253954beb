/* ptx.cuh - one wrapper an instruction, no logic (PTX ISA 9.0). */
#ifndef TMB_CUDA_SM90_PTX_CUH
#define TMB_CUDA_SM90_PTX_CUH

#include <stdint.h>

__device__ __forceinline__ uint32_t smem_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- mbarrier ---------------------------------------------------------------------------- */

__device__ __forceinline__ void barrier_init(uint32_t bar, uint32_t arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals));
}
__device__ __forceinline__ void barrier_init_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity)
{
    asm volatile("{ .reg .pred p; again_%=: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;"
                 " @!p bra again_%=; }" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}
__device__ __forceinline__ void barrier_expect(uint32_t bar, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
                 : "memory");
}
/* One arrival where `on`.  NOTE: predicated, not branched: a branch while wgmma is in flight makes
 * ptxas serialise the whole pipeline (note C7513). */
__device__ __forceinline__ void barrier_arrive_if(uint32_t bar, int on)
{
    asm volatile("{ .reg .pred p; setp.ne.s32 p, %1, 0;"
                 " @p mbarrier.arrive.shared::cta.b64 _, [%0]; }" ::"r"(bar),
                 "r"(on)
                 : "memory");
}

/* ---- bulk copies, global to shared, completing on a barrier ------------------------------- */

__device__ __forceinline__ uint64_t policy_evict_first()
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
__device__ __forceinline__ uint64_t policy_evict_last()
{
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
/* bytes % 16 == 0, both addresses 16-byte aligned. */
__device__ __forceinline__ void bulk_load(uint32_t to, const void *from, uint32_t bytes,
                                          uint32_t bar, uint64_t policy)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
                 " [%0], [%1], %2, [%3], %4;" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(bar), "l"(policy)
                 : "memory");
}

/* ---- programmatic dependent launch --------------------------------------------------------- */

__device__ __forceinline__ void launch_dependents()
{
    asm volatile("griddepcontrol.launch_dependents;");
}
__device__ __forceinline__ void wait_for_previous()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

/* ---- matrix units -------------------------------------------------------------------------- */

/* c [4] += A [16, 16] * B [16, 8], BF16 in, float32 sums. */
__device__ __forceinline__ void mma_bf16(float *c, const uint32_t *a, uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},"
                 " {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int LEFT> __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
/* Shared-memory descriptor of an unswizzled K-major operand: core matrices of 8 rows x 16 bytes,
 * row_bytes between neighbours along N, k_bytes along K.  Its low half counts addresses in 16 bytes, so
 * that another operand beside it is an addition away: made anew for each product, descriptors took a
 * quarter of the kernel's instructions. */
__device__ __forceinline__ uint32_t wgmma_descriptor_low(uint32_t address, uint32_t k_bytes)
{
    return (k_bytes >> 4) << 16 | (address & 0x3ffff) >> 4;
}
__device__ __forceinline__ uint64_t wgmma_descriptor(uint32_t low, uint32_t row_bytes)
{
    return (uint64_t)(row_bytes >> 4) << 32 | low;
}
template <int REGISTERS> __device__ __forceinline__ void registers_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS> __device__ __forceinline__ void registers_fewer()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

/* Both BF16 halves; subnormal inputs are kept (checked on the device, all codes x all scales). */
__device__ __forceinline__ uint32_t mul_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
__device__ __forceinline__ uint32_t sub_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("sub.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
/* low half = a, high half = b, to nearest even. */
__device__ __forceinline__ uint32_t pack_bf16x2(float a, float b)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(b), "f"(a));
    return r;
}
/* An 8x8 matrix of 16-bit values spread over the warp, transposed. */
__device__ __forceinline__ uint32_t transpose_8x8(uint32_t v)
{
    uint32_t r;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
    return r;
}

#endif
