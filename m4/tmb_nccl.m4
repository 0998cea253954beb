AC_DEFUN([TMB_WITH_NCCL], [
  TMB_WITH([nccl], [communicate between GPUs with NCCL], [
    AS_IF([test "x$have_cuda" = xyes], [
      # DIR, else beside CUDA, else the compiler's own paths
      AS_IF([test -z "$tmb_dir" && test -e "$CUDA_DIR/include/nccl.h"], [tmb_dir=$CUDA_DIR])
      NCCL_CFLAGS= NCCL_LIBS=-lnccl
      AS_IF([test -n "$tmb_dir"], [
        NCCL_CFLAGS="-isystem $tmb_dir/include"
        TMB_LIBDIR([tmb_l], [$tmb_dir], [libnccl.so libnccl.so.2 libnccl_static.a])
        AS_IF([test -e "$tmb_l/libnccl.so"], [tmb_n=-lnccl], [tmb_n=-l:libnccl.so.2])
        NCCL_LIBS="-L$tmb_l -Wl,-rpath,$tmb_l $tmb_n"])
      CPPFLAGS="$CPPFLAGS $CUDA_CFLAGS $NCCL_CFLAGS"; LIBS="$NCCL_LIBS $CUDA_LIBS $LIBS"
      AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <nccl.h>]], [[ncclUniqueId i; return ncclGetUniqueId(&i);]])],
        [have_nccl=yes])])
  ])
  AC_SUBST([NCCL_CFLAGS]) AC_SUBST([NCCL_LIBS])
])
