#include "config.h"
#include "kernels/base/dtype.h"

#include <string.h>

static const struct {
    const char *name;
    unsigned bits;
} types[TMB_DTYPES] = {
    [TMB_BOOL] = {"BOOL", 8},
    [TMB_F4] = {"F4", 4},
    [TMB_F6_E2M3] = {"F6_E2M3", 6},
    [TMB_F6_E3M2] = {"F6_E3M2", 6},
    [TMB_U8] = {"U8", 8},
    [TMB_I8] = {"I8", 8},
    [TMB_F8_E5M2] = {"F8_E5M2", 8},
    [TMB_F8_E4M3] = {"F8_E4M3", 8},
    [TMB_F8_E8M0] = {"F8_E8M0", 8},
    [TMB_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [TMB_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
    [TMB_I16] = {"I16", 16},
    [TMB_U16] = {"U16", 16},
    [TMB_F16] = {"F16", 16},
    [TMB_BF16] = {"BF16", 16},
    [TMB_I32] = {"I32", 32},
    [TMB_U32] = {"U32", 32},
    [TMB_F32] = {"F32", 32},
    [TMB_C64] = {"C64", 64},
    [TMB_F64] = {"F64", 64},
    [TMB_I64] = {"I64", 64},
    [TMB_U64] = {"U64", 64},
};

const char *tmb_dtype_name(tmb_dtype dtype)
{
    return types[dtype].name;
}

unsigned tmb_dtype_bits(tmb_dtype dtype)
{
    return types[dtype].bits;
}

bool tmb_dtype_find(const char *name, size_t n, tmb_dtype *out)
{
    for (int i = 0; i < TMB_DTYPES; i++) {
        if (strlen(types[i].name) == n && memcmp(types[i].name, name, n) == 0) {
            *out = (tmb_dtype)i;
            return true;
        }
    }
    return false;
}
