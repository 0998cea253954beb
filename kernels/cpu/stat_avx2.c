/* stat_avx2.c - the same C, compiled for AVX2. */
#include "config.h"
#define TABLE tmb_stat_avx2
#define NAME  "avx2"
#include "kernels/cpu/stat_body.h"
