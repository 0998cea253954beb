# Our own flags go to TMB_CFLAGS; CFLAGS stays the user's.
AC_DEFUN([TMB_TRY_CFLAG], [
  AC_MSG_CHECKING([whether $CC takes $1])
  tmb_save=$CFLAGS; CFLAGS="$CFLAGS -Werror $1"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
    [AC_MSG_RESULT([yes]); TMB_CFLAGS="$TMB_CFLAGS $1"], [AC_MSG_RESULT([no])])
  CFLAGS=$tmb_save
])
AC_DEFUN([TMB_WARNINGS], [
  TMB_CFLAGS="-std=c11"
  m4_foreach_w([TMB_FLAG], [-Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wundef
    -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings
    -Wimplicit-fallthrough -fno-common -fvisibility=hidden], [TMB_TRY_CFLAG(TMB_FLAG)])
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [fail on warnings @<:@no@:>@])])
  AS_IF([test "x$enable_werror" = xyes], [TMB_CFLAGS="$TMB_CFLAGS -Werror"])
  AC_SUBST([TMB_CFLAGS])
])
AC_DEFUN([TMB_SANITIZE], [
  AC_ARG_ENABLE([sanitize],
    [AS_HELP_STRING([--enable-sanitize@<:@=LIST@:>@], [build with sanitizers @<:@address,undefined@:>@])],
    [], [enable_sanitize=no])
  AS_CASE([$enable_sanitize], [yes], [enable_sanitize=address,undefined])
  TMB_SANFLAGS=
  AS_IF([test "x$enable_sanitize" != xno], [
    TMB_SANFLAGS="-fsanitize=$enable_sanitize -fno-sanitize-recover=all -fno-omit-frame-pointer"
    tmb_save=$CFLAGS; CFLAGS="$CFLAGS $TMB_SANFLAGS"
    AC_LINK_IFELSE([AC_LANG_PROGRAM()], [],
      [AC_MSG_ERROR([$CC cannot link with -fsanitize=$enable_sanitize])])
    CFLAGS=$tmb_save
  ])
  AC_SUBST([TMB_SANFLAGS])
])
AC_DEFUN([TMB_COVERAGE], [
  AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [build for 'make coverage' @<:@no@:>@])],
    [], [enable_coverage=no])
  TMB_COVFLAGS=
  AS_IF([test "x$enable_coverage" = xyes], [TMB_COVFLAGS="--coverage -O0"
    AC_CHECK_PROGS([LCOV], [lcov]) AC_CHECK_PROGS([GENHTML], [genhtml])])
  AC_SUBST([TMB_COVFLAGS])
  AM_CONDITIONAL([COVERAGE], [test "x$enable_coverage" = xyes])
])
