# TMB_WITH_CUDA: find a toolkit (headers, nvcc, a runtime to link), prove it by
# compiling a kernel and linking it with CC, and choose the gencode lists.
AC_DEFUN([TMB_WITH_CUDA], [
  AC_ARG_VAR([NVCC], [CUDA compiler])
  AC_ARG_VAR([NVCCFLAGS], [flags for NVCC, such as -lineinfo])
  AC_ARG_WITH([cuda-arch],
    [AS_HELP_STRING([--with-cuda-arch=LIST], [architectures, such as "80 90a 100f 120f" @<:@all of these@:>@])],
    [], [with_cuda_arch=auto])
  TMB_WITH([cuda], [run on NVIDIA GPUs; DIR is the toolkit], [
    # 1. the toolkit: DIR, else what holds the nvcc on PATH, else /usr/local/cuda
    AS_IF([test -z "$tmb_dir" && test -z "$NVCC"], [AC_PATH_PROG([tmb_nvcc], [nvcc])
      AS_IF([test -n "$tmb_nvcc"], [tmb_dir=`dirname "$tmb_nvcc"`; tmb_dir=`cd "$tmb_dir/.." && pwd -P`])])
    AS_IF([test -z "$tmb_dir" && test -n "$NVCC"], [tmb_dir=`dirname "$NVCC"`; tmb_dir=`cd "$tmb_dir/.." && pwd -P`])
    AS_IF([test -z "$tmb_dir" && test -x /usr/local/cuda/bin/nvcc], [tmb_dir=/usr/local/cuda])
    AS_IF([test -z "$NVCC" && test -x "$tmb_dir/bin/nvcc"], [NVCC=$tmb_dir/bin/nvcc])
    AS_IF([test -z "$NVCC"], [have_cuda_why="no nvcc"], [
      # 2. the runtime, static first: no libcudart.so is then needed to run
      TMB_LIBDIR([CUDA_LIBDIR], [$tmb_dir], [libcudart_static.a libcudart.so libcudart.so.13 libcudart.so.12])
      AS_IF([test -z "$CUDA_LIBDIR"], [CUDA_LIBS=-lcudart],
        [test -e "$CUDA_LIBDIR/libcudart_static.a"], [CUDA_LIBS="-L$CUDA_LIBDIR -lcudart_static -ldl -lrt"],
        [test -e "$CUDA_LIBDIR/libcudart.so"], [CUDA_LIBS="-L$CUDA_LIBDIR -Wl,-rpath,$CUDA_LIBDIR -lcudart"],
        [tmb_so=`ls "$CUDA_LIBDIR"/libcudart.so.* 2>/dev/null | sed 1q`
         CUDA_LIBS="-L$CUDA_LIBDIR -Wl,-rpath,$CUDA_LIBDIR -l:`basename "$tmb_so"`"])
      CUDA_LIBS="$CUDA_LIBS -lstdc++"
      AS_CASE([$tmb_dir], [/usr], [CUDA_CFLAGS=], [CUDA_CFLAGS="-isystem $tmb_dir/include"])
      # 3. the targets this nvcc accepts.  90a, 100f and 120f also get the kernels
      #    written for them; f (family: 10.x, 12.x) came with CUDA 12.9, a is 10.0, 12.0.
      AS_IF([test "x$with_cuda_arch" = xauto], [with_cuda_arch="80 90a 100f|100a 120f|120a"])
      CUDA_GENCODE= SM90_GENCODE= SM100_GENCODE= SM120_GENCODE= tmb_archs=
      echo '__global__ void k(void) {}' > conftest.cu
      for tmb_want in $with_cuda_arch; do
        AC_MSG_CHECKING([whether nvcc compiles for sm_$tmb_want])
        tmb_got=no
        for tmb_a in `AS_ECHO(["$tmb_want"]) | tr '|' ' '`; do
          tmb_g="-gencode arch=compute_$tmb_a,code=sm_$tmb_a"
          AS_IF([test $tmb_got = no && "$NVCC" $tmb_g -c conftest.cu -o conftest.o >&AS_MESSAGE_LOG_FD 2>&1], [
            tmb_got=$tmb_a; tmb_archs="$tmb_archs $tmb_a"; CUDA_GENCODE="$CUDA_GENCODE $tmb_g"
            AS_CASE([$tmb_a], [90a], [SM90_GENCODE=$tmb_g], [100@<:@af@:>@], [SM100_GENCODE=$tmb_g],
                              [120@<:@af@:>@], [SM120_GENCODE=$tmb_g])])
        done
        AC_MSG_RESULT([$tmb_got])
      done
      rm -f conftest.cu conftest.o
      # 4. proof: an nvcc object, linked by CC
      AC_MSG_CHECKING([whether $CC links an nvcc object])
      cat > conftest.cu <<_EOF
#include <cuda_runtime.h>
__global__ void k(int *p) { *p = 1; }
extern "C" int f(void) { k<<<1,1>>>(0); return (int)cudaGetLastError(); }
_EOF
      AS_IF([test -n "$CUDA_GENCODE" && "$NVCC" $CUDA_GENCODE -c conftest.cu -o conftest_k.o >&AS_MESSAGE_LOG_FD 2>&1], [
        tmb_x=$LIBS; LIBS="conftest_k.o $CUDA_LIBS $LIBS"
        AC_LINK_IFELSE([AC_LANG_PROGRAM([[int f(void);]], [[return f();]])], [have_cuda=yes])
        LIBS=$tmb_x])
      AC_MSG_RESULT([$have_cuda])
      rm -f conftest.cu conftest_k.o
      CUDA_DIR=$tmb_dir
      have_cuda_why="$tmb_dir; sm$tmb_archs"
    ])
  ])
  AS_IF([test "x$have_cuda" != xyes], [SM90_GENCODE= SM100_GENCODE= SM120_GENCODE=])
  m4_foreach_w([a], [90 100 120], [
    AM_CONDITIONAL([HAVE_SM]a, [test -n "$SM[]a[]_GENCODE"])
    AS_IF([test -n "$SM[]a[]_GENCODE"],
      [AC_DEFINE([HAVE_SM]a, [1], [Define to 1 to build the sm_]a[ kernels.])])
    AC_SUBST([SM]a[_GENCODE])])
  AC_SUBST([CUDA_CFLAGS]) AC_SUBST([CUDA_LIBS]) AC_SUBST([CUDA_GENCODE]) AC_SUBST([CUDA_DIR])
])
