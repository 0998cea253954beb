# pkg-config first (Debian: hdf5, hdf5-serial), then DIR, then what h5cc prints.
AC_DEFUN([TMB_WITH_HDF5], [
  TMB_WITH([hdf5], [write calibration files with HDF5], [
    AS_IF([test -n "$tmb_dir"],
      [HDF5_CFLAGS="-I$tmb_dir/include"; TMB_LIBDIR([tmb_l], [$tmb_dir], [libhdf5.so libhdf5.a])
       HDF5_LIBS="-L$tmb_l -Wl,-rpath,$tmb_l -lhdf5"],
      [PKG_CHECK_MODULES([HDF5], [hdf5 >= 1.10], [], [
         PKG_CHECK_MODULES([HDF5], [hdf5-serial >= 1.10], [], [
           AC_PATH_PROG([H5CC], [h5cc])
           AS_IF([test -n "$H5CC"], [
             tmb_show=`$H5CC -shlib -show 2>/dev/null`
             HDF5_CFLAGS=`AS_ECHO(["$tmb_show"]) | tr ' ' '\n' | grep '^-[[ID]]' | tr '\n' ' '`
             HDF5_LIBS=`AS_ECHO(["$tmb_show"]) | tr ' ' '\n' | grep -e '^-[[Ll]]' -e '^-Wl' | tr '\n' ' '`])])])])
    CPPFLAGS="$CPPFLAGS $HDF5_CFLAGS"; LIBS="$HDF5_LIBS $LIBS"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <hdf5.h>]], [[return H5open();]])], [have_hdf5=yes])
  ])
  AC_SUBST([HDF5_CFLAGS]) AC_SUBST([HDF5_LIBS])
])
