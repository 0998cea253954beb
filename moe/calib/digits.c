/* digits.c - exact sums in the one form that files hold, and back. */
#include "config.h"
#include "moe/calib/accum.h"

#include <math.h>

int tmb_accum_lowest(const tmb_accum *a)
{
    return a->seen ? __builtin_ctz(a->seen) : 0;
}

/* The sum as 16-bit digits above class c0, sign in the last.  There are at most four more digits
 * than classes: a bound is below 2^63. */
enum { DIGITS = TMB_CLASSES + 4 };

static void split(const tmb_accum *a, uint64_t at, int16_t *sign, uint16_t digits[DIGITS])
{
    int c0 = tmb_accum_lowest(a);
    __int128 rest = 0;
    for (int i = 0; i < DIGITS; i++) {
        int c = c0 + i;
        if (c < TMB_CLASSES && a->sums[c]) rest += a->sums[c][at];
        digits[i] = (uint16_t)(rest & 0xffff);
        rest >>= TMB_CLASS_BITS;
    }
    *sign = rest < 0 ? -1 : 0;
}

/* The sum when it fits 64 bits, as it nearly always does; false says nothing. */
static bool small(const tmb_accum *a, uint64_t at, int64_t *out)
{
    enum { NEAR = 4 }; /* classes whose sums, below 2^63, are added without overflow */
    int c0 = tmb_accum_lowest(a);
    __int128 sum = 0;
    for (int c = c0; c < TMB_CLASSES; c++) {
        if (!a->sums[c] || !a->sums[c][at]) continue;
        if (c >= c0 + NEAR) return false;
        sum += (__int128)a->sums[c][at] * ((__int128)1 << (TMB_CLASS_BITS * (c - c0)));
    }
    *out = (int64_t)sum;
    return *out == sum;
}

int tmb_accum_planes(const tmb_accum *a, uint64_t at)
{
    uint16_t digits[DIGITS];
    int16_t sign;
    int64_t sum;
    if (small(a, at, &sum)) return 1;
    split(a, at, &sign, digits);
    int used = DIGITS;
    while (used > 0 && digits[used - 1] == (uint16_t)sign)
        used--;
    /* In two's complement, so the highest bit must tell the sign: four digits fill the last plane.
     */
    if (used > 0 && ((int16_t)digits[used - 1] < 0) != (sign < 0)) used++;
    int planes = 1;
    while (used > 3 * (planes - 1) + 4)
        planes++;
    return planes;
}

void tmb_accum_digits(const tmb_accum *a, uint64_t at, int planes, int64_t *out)
{
    uint16_t digits[DIGITS];
    int16_t sign;
    if (planes == 1 && small(a, at, out)) return;
    split(a, at, &sign, digits);
    for (int p = 0; p < planes; p++) {
        uint64_t v = 0;
        int n = p + 1 == planes ? 4 : 3;
        for (int i = 0; i < n; i++) {
            int d = 3 * p + i;
            uint64_t digit = d < DIGITS ? digits[d] : (uint16_t)sign;
            v |= digit << (16 * i);
        }
        out[p] = (int64_t)v;
    }
}

tmb_status tmb_accum_take(tmb_accum *a, const tmb_accum_shape *shape, int c0, uint64_t at,
                          int planes, const int64_t *digits, tmb_err *err)
{
    for (int p = 0; p < planes; p++) {
        int64_t rest = digits[p];
        if (!rest) continue;
        if (p + 1 < planes && (rest < 0 || rest >> TMB_PLANE_BITS))
            return tmb_fail(err, TMB_EDATA, "digit %lld of a lower plane is not within 48 bits",
                            (long long)rest);
        for (int i = 0; i < 3 && rest; i++) {
            int c = c0 + 3 * p + i;
            if (c >= TMB_CLASSES) return tmb_fail(err, TMB_EDATA, "a sum passes 2^234");
            TRY(tmb_accum_need_class(a, shape, c, err));
            /* The third, or the highest there is, takes what is left, sign and all. */
            bool last = i == 2 || c + 1 == TMB_CLASSES;
            uint64_t bound = (uint64_t)1 << (last ? 63 - TMB_CLASS_BITS * i : TMB_CLASS_BITS);
            a->sums[c][at] = last ? rest : rest & 0xffff;
            if (a->bound[c] < bound) a->bound[c] = bound;
            rest = last ? 0 : rest >> TMB_CLASS_BITS;
        }
    }
    return TMB_OK;
}

double tmb_accum_value(const tmb_accum *a, uint64_t at)
{
    double sum = 0;
    for (int c = 0; c < TMB_CLASSES; c++)
        if (a->sums[c])
            sum += ldexp((double)a->sums[c][at], TMB_CLASS_BITS * c + TMB_UNIT_EXPONENT);
    return sum;
}
