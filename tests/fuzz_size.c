/* fuzz_size - sizes as people write them, and every text made safe or short for a terminal. */
#include "config.h"
#include "kernels/base/err.h"
#include "moe/recipe/recipe.h"
#include "tests/fuzz.h"

#include <string.h>

/* The value by long arithmetic in 128 bits, -1 when it is no size. */
static __int128 plain(const char *s)
{
    __int128 n = 0, tenths = 1;
    const char *units = "KMGT", *p = s;
    for (; *p >= '0' && *p <= '9'; p++)
        if ((n = n * 10 + (*p - '0')) >> 64 || p - s == 20) return -1;
    if (p == s) return -1;
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++, tenths *= 10) {
            if (tenths == 1000000) return -1;
            n = n * 10 + (*p - '0');
        }
    if (p[-1] == '.') return -1;
    const char *u = *p ? strchr(units, *p == 'k' ? 'K' : *p) : NULL;
    if (u) {
        n <<= 10 * (u - units + 1);
        p++;
        if (p[0] == 'i' && p[1] == 'B') p++;
    } else if (tenths > 1) {
        return -1;
    }
    n /= tenths;
    if (*p == 'B') p++;
    return *p || n >> 64 ? -1 : n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[256];
    size_t n = size < sizeof text ? size : sizeof text - 1;
    memcpy(text, data, n);
    text[n] = 0;
    uint64_t bytes = 77;
    __int128 want = plain(text);
    if (tmb_size_parse(text, &bytes))
        MUST(want == (__int128)bytes);
    else
        MUST(want < 0 && bytes == 77);

    tmb_err err = {0};
    MUST(tmb_fail(&err, TMB_EDATA, "%s: bad", text) == TMB_EDATA);
    MUST(strlen(err.message) < sizeof err.message);
    for (const char *p = err.message; *p; p++)
        MUST((unsigned char)*p >= 0x20 && *p != 0x7f);
    return 0;
}
