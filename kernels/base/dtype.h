/* dtype.h - the element types of a safetensors file: names and widths. */
#ifndef TMB_BASE_DTYPE_H
#define TMB_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of the table in dtype.c.  F4, F6: sub-byte, shapes count elements. */
typedef enum tmb_dtype {
    TMB_BOOL,
    TMB_F4,
    TMB_F6_E2M3,
    TMB_F6_E3M2,
    TMB_U8,
    TMB_I8,
    TMB_F8_E5M2,
    TMB_F8_E4M3,
    TMB_F8_E8M0,
    TMB_F8_E4M3FNUZ,
    TMB_F8_E5M2FNUZ,
    TMB_I16,
    TMB_U16,
    TMB_F16,
    TMB_BF16,
    TMB_I32,
    TMB_U32,
    TMB_F32,
    TMB_C64,
    TMB_F64,
    TMB_I64,
    TMB_U64,
    TMB_DTYPES
} tmb_dtype;

const char *tmb_dtype_name(tmb_dtype dtype);                    /* "BF16", as safetensors spells it */
unsigned tmb_dtype_bits(tmb_dtype dtype);                       /* 4, 6, 8 … 64 */
bool tmb_dtype_find(const char *name, size_t n, tmb_dtype *out); /* name [n bytes, no NUL needed] */

#ifdef __cplusplus
}
#endif
#endif
