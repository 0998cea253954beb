# MPI is compiled with the ordinary CC: flags from pkg-config or from mpicc,
# so one object file, not the whole tree, knows about MPI.
AC_DEFUN([TMB_WITH_MPI], [
  TMB_WITH([mpi], [communicate between hosts with MPI], [
    AC_PATH_PROGS([MPICC], [mpicc mpiicc], [], [${tmb_dir:+$tmb_dir/bin:}$PATH])
    AC_PATH_PROGS([MPIRUN], [mpirun mpiexec], [], [${tmb_dir:+$tmb_dir/bin:}$PATH])
    AS_IF([test -n "$MPICC"], [
      tmb_show=`$MPICC --showme:compile 2>/dev/null` || tmb_show=`$MPICC -compile_info 2>/dev/null | cut -d' ' -f2-`
      MPI_CFLAGS=$tmb_show
      tmb_show=`$MPICC --showme:link 2>/dev/null` || tmb_show=`$MPICC -link_info 2>/dev/null | cut -d' ' -f2-`
      MPI_LIBS=$tmb_show
      CPPFLAGS="$CPPFLAGS $MPI_CFLAGS"; LIBS="$MPI_LIBS $LIBS"
      AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>]], [[return MPI_Init(0,0);]])], [have_mpi=yes])])
  ])
  AC_SUBST([MPI_CFLAGS]) AC_SUBST([MPI_LIBS]) AC_SUBST([MPIRUN])
])
