/* stat_ref.c - the reference of the statistics operations. */
#include "config.h"
#define TABLE tmb_stat_ref
#define NAME  "ref"
#include "kernels/cpu/stat_body.h"
