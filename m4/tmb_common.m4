# TMB_WITH(NAME, DESCRIPTION, PROBE)
# One shape for every optional library:
#   --with-NAME        must be there, or configure fails
#   --with-NAME=DIR    must be there, under DIR
#   --without-NAME     not looked for
#   (nothing)          used when found
# PROBE runs with $tmb_dir = DIR or empty, and sets have_NAME=yes.
AC_DEFUN([TMB_WITH], [
  AC_ARG_WITH([$1], [AS_HELP_STRING([--with-$1@<:@=DIR@:>@], [$2 @<:@auto@:>@])],
    [], [with_$1=auto])
  have_$1=no
  AS_CASE([$with_$1], [yes|no|auto], [tmb_dir=], [tmb_dir=$with_$1])
  AS_IF([test "x$with_$1" != xno], [
    tmb_save_CPPFLAGS=$CPPFLAGS tmb_save_LDFLAGS=$LDFLAGS tmb_save_LIBS=$LIBS tmb_save_CFLAGS=$CFLAGS
    $3
    CPPFLAGS=$tmb_save_CPPFLAGS LDFLAGS=$tmb_save_LDFLAGS LIBS=$tmb_save_LIBS CFLAGS=$tmb_save_CFLAGS
    AS_IF([test "x$have_$1" = xno && test "x$with_$1" != xauto],
      [AC_MSG_ERROR([--with-$1 was given, but $1 was not usable; see config.log])])
  ])
  AS_IF([test "x$have_$1" = xyes],
    [AC_DEFINE(m4_toupper([HAVE_$1]), [1], [Define to 1 to build with $1.])])
  AM_CONDITIONAL(m4_toupper([HAVE_$1]), [test "x$have_$1" = xyes])
])

# TMB_LIBDIR(VARIABLE, DIR, FILE...): the first of DIR/{lib64,lib,targets/*/lib}
# that holds one of the files.  A CUDA toolkit unpacked from Python wheels has
# lib/ and no lib64/, and its libraries may lack the unversioned .so name.
AC_DEFUN([TMB_LIBDIR], [
  $1=
  for tmb_d in "$2/lib64" "$2/lib" "$2"/targets/*/lib; do
    for tmb_f in $3; do
      AS_IF([test -z "$$1" && test -e "$tmb_d/$tmb_f"], [$1=$tmb_d])
    done
  done
])

AC_DEFUN([TMB_SUMMARY], [
  AC_MSG_NOTICE([
  $PACKAGE_STRING
    compiler    $CC $CFLAGS $TMB_CFLAGS
    inih        $have_inih
    vectors     ${AVX2_CFLAGS:+AVX2 }${AVX512_CFLAGS:+AVX-512}
    HDF5        $have_hdf5
    MPI         $have_mpi
    CUDA        $have_cuda${have_cuda_why:+ ($have_cuda_why)}
    NCCL        $have_nccl
    sanitizers  ${enable_sanitize:-no}
    coverage    ${enable_coverage:-no}
    hardening  ${tmb_hardened:- no}])
])
