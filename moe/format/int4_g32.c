/* int4_g32.c - int4 with a scale for 32 columns instead of 128: for widths that 128 does not divide,
 * and half a bit a weight more for what that buys (Kimi-K2.5 ships its experts so). */
#include "config.h"
#include "moe/format/int4.h"

const tmb_format tmb_format_int4_g32 = {
    .name = "int4-g32",
    .summary = "4-bit integers, one scale for 32, activations untouched",
    .family = "int4",
    .group = 32,
    .col_multiple = 32,
    .act = TMB_ACT_NONE,
    .bits = 5,
    .part = tmb_int4_part,
    .encode = tmb_int4_encode,
    .decode = tmb_int4_decode,
};
