lib_LIBRARIES = libtombac.a
libtombac_a_SOURCES =
libtombac_a_LIBADD =
libtombac_a_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) $(CRYPTO_CFLAGS) $(PCRE2_CFLAGS) $(INIH_CFLAGS) \
	$(HDF5_CFLAGS) $(MPI_CFLAGS) $(NCCL_CFLAGS)
tombac_libs = libtombac.a $(INIH_LIBS) $(JANSSON_LIBS) $(CRYPTO_LIBS) $(PCRE2_LIBS) $(HDF5_LIBS) $(MPI_LIBS)

libtombac_a_SOURCES +=           \
	kernels/base/clock.h     \
	kernels/base/codec.h     \
	kernels/base/dtype.c     \
	kernels/base/dtype.h     \
	kernels/base/err.c       \
	kernels/base/err.h       \
	kernels/base/mem.c       \
	kernels/base/mem.h       \
	kernels/base/nn.h        \
	kernels/base/ops.h       \
	kernels/base/progress.h  \
	kernels/base/route.h     \
	kernels/base/stat.h      \
	kernels/base/team.c      \
	kernels/base/team.h      \
	kernels/comm/comm.c      \
	kernels/comm/comm.h      \
	kernels/comm/comm_internal.h \
	kernels/comm/mpi.c       \
	kernels/comm/nccl.c      \
	kernels/comm/self.c      \
	kernels/comm/threads.c   \
	kernels/base/safe.c      \
	kernels/base/safe.h      \
	kernels/cpu/cpu.c        \
	kernels/cpu/cpu.h        \
	kernels/cpu/nn_exp.h     \
	kernels/cpu/nn_ref.c     \
	kernels/cpu/nn_vector.h  \
	kernels/cpu/recurrence.c \
	kernels/cpu/recurrence.h \
	kernels/cpu/ref.c        \
	kernels/cpu/route.c      \
	kernels/cpu/route.h      \
	kernels/cpu/search.h     \
	kernels/cpu/stat.c       \
	kernels/cpu/stat.h       \
	kernels/cpu/stat_body.h  \
	kernels/cpu/stat_ref.c   \
	kernels/cpu/tables.h     \
	kernels/cpu/topk.c       \
	kernels/cpu/topk.h       \
	kernels/cpu/vector.h     \
	kernels/cuda/driver.c    \
	kernels/cuda/driver.h

# One file an instruction set, compiled for it alone; cpu.c chooses at run time.
if HAVE_AVX2
noinst_LIBRARIES += kernels/cpu/libavx2.a
kernels_cpu_libavx2_a_SOURCES = kernels/cpu/avx2.c kernels/cpu/stat_avx2.c
kernels_cpu_libavx2_a_CFLAGS = $(AM_CFLAGS) $(AVX2_CFLAGS)
libtombac_a_LIBADD += $(kernels_cpu_libavx2_a_OBJECTS)
noinst_LIBRARIES += kernels/cpu/libnn_avx2.a
kernels_cpu_libnn_avx2_a_SOURCES = kernels/cpu/nn_avx2.c
kernels_cpu_libnn_avx2_a_CFLAGS = $(AM_CFLAGS) $(AVX2_CFLAGS) -mfma
libtombac_a_LIBADD += $(kernels_cpu_libnn_avx2_a_OBJECTS)
endif
if HAVE_AVX512
noinst_LIBRARIES += kernels/cpu/libavx512.a
kernels_cpu_libavx512_a_SOURCES = kernels/cpu/avx512.c kernels/cpu/nn_avx512.c kernels/cpu/stat_avx512.c
kernels_cpu_libavx512_a_CFLAGS = $(AM_CFLAGS) $(AVX512_CFLAGS)
libtombac_a_LIBADD += $(kernels_cpu_libavx512_a_OBJECTS)
endif

if HAVE_NEON
libtombac_a_SOURCES += kernels/cpu/neon.c
else
EXTRA_DIST += kernels/cpu/neon.c
endif

# CUDA.  A .cu file is a source like any other: the suffix rule makes its object, and nvcc writes
# dependencies like gcc.  Kernels for one architecture are compiled for it alone.
libtombac_a_SOURCES +=           \
	kernels/cuda/absent.c    \
	kernels/cuda/blas.c      \
	kernels/cuda/blas.h      \
	kernels/cuda/choose.h    \
	kernels/cuda/device.h    \
	kernels/cuda/encoders.c  \
	kernels/cuda/explain.c   \
	kernels/cuda/grouped.h   \
	kernels/cuda/lane.h      \
	kernels/cuda/pack.c      \
	kernels/cuda/quantize.h  \
	kernels/cuda/read.h      \
	kernels/cuda/route.h
cuda_files =                     \
	kernels/cuda/compare.cu  \
	kernels/cuda/cuda_try.h  \
	kernels/cuda/device.c    \
	kernels/cuda/encode.cuh  \
	kernels/cuda/lane.c      \
	kernels/cuda/launch.cuh  \
	kernels/cuda/quantize.cu \
	kernels/cuda/read.cu     \
	kernels/cuda/route.cu    \
	kernels/cuda/search.cuh
sm90_files =                     \
	kernels/cuda/sm90/gemm.cuh \
	kernels/cuda/sm90/gemm_bf16.cu \
	kernels/cuda/sm90/gemm_int4.cu \
	kernels/cuda/sm90/gemm_launch.cuh \
	kernels/cuda/sm90/gemm_mxfp4.cu \
	kernels/cuda/sm90/gemm_nvfp4.cu \
	kernels/cuda/sm90/grouped.cu \
	kernels/cuda/sm90/permute.cuh \
	kernels/cuda/sm90/ptx.cuh \
	kernels/cuda/sm90/tiles.cuh \
	kernels/cuda/sm90/weights.cuh \
	kernels/cuda/sm90/wgmma.cuh
if HAVE_CUDA
libtombac_a_SOURCES += $(cuda_files)
libtombac_a_CPPFLAGS += $(CUDA_CFLAGS)
tombac_libs += $(CUDA_LIBS)
if HAVE_SM90
libtombac_a_SOURCES += $(sm90_files)
else
EXTRA_DIST += $(sm90_files)
endif
else
EXTRA_DIST += $(cuda_files) $(sm90_files)
endif

GENCODE = $(CUDA_GENCODE)
kernels/cuda/sm90/%.o: GENCODE = $(SM90_GENCODE)

AM_V_NVCC   = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
AM_NVCCFLAGS = -std=c++17 -O3 -lineinfo -Xcompiler -fPIC,-fvisibility=hidden,-Wall

# Notes C7510 to C7515 say that ptxas gave up the wgmma pipeline: the kernel is right and slow.
.cu.o:
	$(AM_V_at)$(MKDIR_P) $(@D)/$(DEPDIR)
	$(AM_V_NVCC)$(NVCC) $(AM_NVCCFLAGS) $(NVCCFLAGS) $(GENCODE) $(DEFS) $(AM_CPPFLAGS) \
	  -MD -MP -MT $@ -MF $(@D)/$(DEPDIR)/$(*F).cu.d -Xptxas -v -c -o $@ $< >$@.log 2>&1 || { cat $@.log; exit 1; }; \
	if grep -E 'C751[0-5]' $@.log; then rm -f $@; exit 1; fi

-include $(wildcard kernels/cuda/$(DEPDIR)/*.cu.d kernels/cuda/*/$(DEPDIR)/*.cu.d)
CLEANFILES += kernels/cuda/$(DEPDIR)/*.cu.d kernels/cuda/*/$(DEPDIR)/*.cu.d \
	kernels/cuda/*.o.log kernels/cuda/*/*.o.log
