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
# --enable-fuzz: the library is built with the coverage feedback of libFuzzer and with sanitizers, and
# the targets tests/fuzz_* are linked with its main program instead of ours.  --enable-fuzz=bare leaves
# the sanitizers and the tracing of comparisons out: ten times the executions, of which only what a
# target demands, and what makes a processor stop, is seen.
AC_DEFUN([TMB_FUZZ], [
  AC_ARG_ENABLE([fuzz],
    [AS_HELP_STRING([--enable-fuzz@<:@=bare@:>@],
       [build the fuzz targets for libFuzzer, bare: without sanitizers; needs clang @<:@no@:>@])],
    [], [enable_fuzz=no])
  FUZZ_ENGINE=
  AS_CASE([$enable_fuzz],
    [no], [],
    [yes], [TMB_SANFLAGS="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"],
    [bare], [TMB_SANFLAGS="-fsanitize-coverage=inline-8bit-counters,pc-table -fno-omit-frame-pointer"],
    [AC_MSG_ERROR([--enable-fuzz takes nothing or bare, not $enable_fuzz])])
  AS_IF([test "x$enable_fuzz" != xno], [
    CPPFLAGS="$CPPFLAGS -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION"
    tmb_engine=`$CC -print-file-name=libclang_rt.fuzzer-$host_cpu.a 2>/dev/null`
    tmb_save_CFLAGS=$CFLAGS tmb_save_LIBS=$LIBS
    CFLAGS="$CFLAGS $TMB_SANFLAGS" LIBS="$tmb_engine -lstdc++ $LIBS"
    AC_LINK_IFELSE([AC_LANG_SOURCE([
      int LLVMFuzzerTestOneInput(const unsigned char *data, __SIZE_TYPE__ size)
      { return size && *data == 255; }])],
      [FUZZ_ENGINE="$tmb_engine -lstdc++"],
      [AC_MSG_ERROR([--enable-fuzz needs clang with libFuzzer: ./configure CC=clang --enable-fuzz])])
    CFLAGS=$tmb_save_CFLAGS LIBS=$tmb_save_LIBS
  ])
  AC_SUBST([FUZZ_ENGINE])
  AM_CONDITIONAL([FUZZ], [test "x$enable_fuzz" != xno])
])
# TMB_HARDEN_FLAG(VARIABLE, FLAGS, NAME, [PROGRAM]): FLAGS to VARIABLE when a program links with them;
# config.h gets TMB_HARDENED_NAME, which tests/test_hardened.c holds against the program built.
AC_DEFUN([TMB_HARDEN_FLAG], [
  AC_MSG_CHECKING([whether $CC takes $2])
  tmb_save_CFLAGS=$CFLAGS; CFLAGS="$CFLAGS -Werror -fPIC $2"
  AC_LINK_IFELSE([m4_default([$4], [AC_LANG_PROGRAM()])],
    [AC_MSG_RESULT([yes]); $1="$$1 $2"; tmb_hardened="$tmb_hardened m4_tolower([$3])"
     AC_DEFINE([TMB_HARDENED_$3], [1], [Define to 1 when built with $2.])],
    [AC_MSG_RESULT([no])])
  CFLAGS=$tmb_save_CFLAGS
])
# What makes a memory error that got through harder to use.  After TMB_SANITIZE and its like: glibc's
# checks of buffer sizes need optimisation, and the sanitizers replace them.
AC_DEFUN([TMB_HARDEN], [
  AC_ARG_ENABLE([hardening],
    [AS_HELP_STRING([--disable-hardening], [build without PIE, RELRO, stack protector and the like])],
    [], [enable_hardening=yes])
  TMB_LDFLAGS= tmb_hardened=
  AS_IF([test "x$enable_hardening" != xno], [
    TMB_HARDEN_FLAG([TMB_LDFLAGS], [-pie], [PIE])
    TMB_HARDEN_FLAG([TMB_LDFLAGS], [-Wl,-z,relro], [RELRO])
    TMB_HARDEN_FLAG([TMB_LDFLAGS], [-Wl,-z,now], [NOW])
    TMB_HARDEN_FLAG([TMB_LDFLAGS], [-Wl,-z,noexecstack], [NOEXECSTACK])
    TMB_HARDEN_FLAG([TMB_CFLAGS], [-fstack-protector-strong], [STACK])
    TMB_HARDEN_FLAG([TMB_CFLAGS], [-fstack-clash-protection], [CLASH])
    TMB_HARDEN_FLAG([TMB_CFLAGS], [-fcf-protection=full], [CET])
    AS_IF([test "x$TMB_SANFLAGS$TMB_COVFLAGS" = x], [
      m4_define([TMB_OPTIMISED], [AC_LANG_PROGRAM([[
        #include <string.h>
        #ifndef __OPTIMIZE__
        #error not optimised
        #endif]])])
      TMB_HARDEN_FLAG([TMB_CFLAGS], [-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3], [FORTIFY], [TMB_OPTIMISED])
    ])
  ])
  AC_SUBST([TMB_LDFLAGS])
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
