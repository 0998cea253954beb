# Vector kernels are separate files compiled for one instruction set each and
# chosen at run time, so the rest of the program runs on any x86-64.
AC_DEFUN([TMB_VECTOR], [
  AVX2_CFLAGS= AVX512_CFLAGS=
  AC_MSG_CHECKING([whether $CC compiles for AVX2 and AVX-512])
  tmb_save=$CFLAGS
  CFLAGS="$tmb_save -mavx2 -mf16c"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <immintrin.h>]],
    [[__m256i x = _mm256_setzero_si256(); return _mm256_extract_epi32(_mm256_add_epi8(x, x), 0);]])],
    [AVX2_CFLAGS="-mavx2 -mf16c"])
  CFLAGS="$tmb_save -mavx512f -mavx512bw -mavx512vl -mavx512dq"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <immintrin.h>]],
    [[__m512i x = _mm512_setzero_si512(); return _mm512_reduce_add_epi32(_mm512_add_epi8(x, x));]])],
    [AVX512_CFLAGS="-mavx512f -mavx512bw -mavx512vl -mavx512dq"])
  CFLAGS=$tmb_save
  AC_MSG_RESULT([${AVX2_CFLAGS:-no}, ${AVX512_CFLAGS:-no}])
  AM_CONDITIONAL([HAVE_AVX2], [test -n "$AVX2_CFLAGS"])
  AM_CONDITIONAL([HAVE_AVX512], [test -n "$AVX512_CFLAGS"])
  AS_IF([test -n "$AVX2_CFLAGS"], [AC_DEFINE([HAVE_AVX2], [1], [Define to 1 to build the AVX2 kernels.])])
  AS_IF([test -n "$AVX512_CFLAGS"], [AC_DEFINE([HAVE_AVX512], [1], [Define to 1 to build the AVX-512 kernels.])])
  AC_SUBST([AVX2_CFLAGS]) AC_SUBST([AVX512_CFLAGS])
  # Every 64-bit ARM has it: no flags, and nothing to ask at run time.
  AC_MSG_CHECKING([whether $CC compiles for Advanced SIMD])
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <arm_neon.h>
    #ifndef __aarch64__
    #error 64-bit ARM only
    #endif]], [[return (int)vmaxvq_u32(vdupq_n_u32(0));]])], [tmb_neon=yes], [tmb_neon=no])
  AC_MSG_RESULT([$tmb_neon])
  AM_CONDITIONAL([HAVE_NEON], [test $tmb_neon = yes])
  AS_IF([test $tmb_neon = yes], [AC_DEFINE([HAVE_NEON], [1], [Define to 1 to build the Advanced SIMD kernels.])])
])
