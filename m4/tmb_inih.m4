AC_DEFUN([TMB_WITH_INIH], [
  TMB_WITH([inih], [read recipes with inih], [
    AS_IF([test -n "$tmb_dir"],
      [INIH_CFLAGS="-I$tmb_dir/include"; TMB_LIBDIR([tmb_l], [$tmb_dir], [libinih.so libinih.a])
       INIH_LIBS="-L$tmb_l -linih"],
      [PKG_CHECK_MODULES([INIH], [inih], [], [INIH_CFLAGS= INIH_LIBS=-linih])])
    CPPFLAGS="$CPPFLAGS $INIH_CFLAGS"; LIBS="$INIH_LIBS $LIBS"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <ini.h>]], [[return ini_parse_stream(0,0,0,0);]])],
      [have_inih=yes])
  ])
  AC_SUBST([INIH_CFLAGS]) AC_SUBST([INIH_LIBS])
])
