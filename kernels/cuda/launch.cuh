/* launch.cuh - launches in a chain: from capability 9.0 on each kernel may begin before the one
 * before has ended (programmatic dependent launch), and waits itself before it touches memory. */
#ifndef TMB_CUDA_LAUNCH_CUH
#define TMB_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>

struct launcher {
    cudaStream_t stream;
    cudaError_t error;
    int processors, major;

    explicit launcher(void *on)
        : stream((cudaStream_t)on), error(cudaSuccess), processors(1), major(0)
    {
        int device = 0;
        error = cudaGetDevice(&device);
        if (error == cudaSuccess)
            error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
        if (error == cudaSuccess)
            error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    }

    template <class F, class... A>
    void operator()(F kernel, dim3 grid, int threads, size_t shared, A... args)
    {
        if (error != cudaSuccess) return;
        cudaLaunchConfig_t config = {};
        config.gridDim = grid;
        config.blockDim = dim3((unsigned)threads);
        config.dynamicSmemBytes = shared;
        config.stream = stream;
        cudaLaunchAttribute early;
        early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
        early.val.programmaticStreamSerializationAllowed = 1;
        config.attrs = &early;
        config.numAttrs = major >= 9;
        error = cudaLaunchKernelEx(&config, kernel, args...);
    }

    /* Dynamic shared memory above 48 KiB has to be asked for. */
    template <class F> void allow(F kernel, size_t shared)
    {
        if (error == cudaSuccess)
            error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         (int)shared);
    }
};

/* The next kernel may be launched; everything of the one before is there.  Below 9.0 both hold
 * anyway. */
__device__ __forceinline__ void chain_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;\n griddepcontrol.wait;" ::: "memory");
#endif
}

#endif
