/* device.h - what --device says. */
#ifndef TMB_SRC_DEVICE_H
#define TMB_SRC_DEVICE_H

#include "kernels/base/err.h"

/* "cuda:N", "cuda" or NULL (both the first) to *index.  TMB_EUSAGE for anything else. */
tmb_status tmb_device_parse(const char *text, int *index, tmb_err *err) TMB_CHECKED;

#endif
