lib_LIBRARIES = libtombac.a
libtombac_a_SOURCES =
libtombac_a_LIBADD =
libtombac_a_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS) $(CRYPTO_CFLAGS) $(PCRE2_CFLAGS) $(INIH_CFLAGS)
tombac_libs = libtombac.a $(INIH_LIBS) $(JANSSON_LIBS) $(CRYPTO_LIBS) $(PCRE2_LIBS)

libtombac_a_SOURCES +=           \
	kernels/base/dtype.c     \
	kernels/base/dtype.h     \
	kernels/base/err.c       \
	kernels/base/err.h       \
	kernels/base/mem.c       \
	kernels/base/mem.h       \
	kernels/base/ops.h       \
	kernels/base/progress.h  \
	kernels/cpu/cpu.c        \
	kernels/cpu/cpu.h        \
	kernels/cpu/ref.c

# One file an instruction set, compiled for it alone; cpu.c chooses at run time.
if HAVE_AVX2
noinst_LIBRARIES += kernels/cpu/libavx2.a
kernels_cpu_libavx2_a_SOURCES = kernels/cpu/avx2.c
kernels_cpu_libavx2_a_CFLAGS = $(AM_CFLAGS) $(AVX2_CFLAGS)
libtombac_a_LIBADD += $(kernels_cpu_libavx2_a_OBJECTS)
endif
if HAVE_AVX512
noinst_LIBRARIES += kernels/cpu/libavx512.a
kernels_cpu_libavx512_a_SOURCES = kernels/cpu/avx512.c
kernels_cpu_libavx512_a_CFLAGS = $(AM_CFLAGS) $(AVX512_CFLAGS)
libtombac_a_LIBADD += $(kernels_cpu_libavx512_a_OBJECTS)
endif
