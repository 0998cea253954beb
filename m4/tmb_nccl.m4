# Only the header is needed to build: libnccl is opened at run time, found by the dynamic linker or
# in the folder that configure saw.
AC_DEFUN([TMB_WITH_NCCL], [
  tmb_nccl_lib=
  TMB_WITH([nccl], [communicate between GPUs with NCCL], [
    AS_IF([test "x$have_cuda" = xyes], [
      # DIR, else beside CUDA, else the compiler's own paths
      AS_IF([test -z "$tmb_dir" && test -e "$CUDA_DIR/include/nccl.h"], [tmb_dir=$CUDA_DIR])
      NCCL_CFLAGS=
      AS_IF([test -n "$tmb_dir"], [
        NCCL_CFLAGS="-isystem $tmb_dir/include"
        TMB_LIBDIR([tmb_nccl_lib], [$tmb_dir], [libnccl.so.2])])
      CPPFLAGS="$CPPFLAGS $CUDA_CFLAGS $NCCL_CFLAGS"
      AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <nccl.h>
        #if NCCL_VERSION_CODE < 21400
        #error non-blocking communicators came with NCCL 2.14
        #endif]], [[ncclConfig_t c = NCCL_CONFIG_INITIALIZER; c.blocking = 0; return c.blocking;]])],
        [have_nccl=yes])])
  ])
  AC_DEFINE_UNQUOTED([TMB_NCCL_DIR], ["${tmb_nccl_lib:-/usr/lib}"],
    [Where libnccl.so.2 was when this was built.])
  AC_SUBST([NCCL_CFLAGS])
])
