/* grid.c - whether the values of an E2M1 block are the nearest to the source's that its own scale
 * has.
 *
 * A scale that was searched by the error of the output may cut a large weight, or lose small ones,
 * whose inputs are next to nothing; so being far from the source is no sign of damage as long as
 * each value is where rounding puts it.  Swapped codes, rows or scales are not. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <math.h>

/* Room for a source that was rounded on its way. */
#define SLACK (1.0f / 128)

static bool nearest_under(const float *a, const float *b, size_t n, float scale)
{
    static const float code[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    static const float above[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, INFINITY};
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(b[i]) / scale, x = b[i] < 0 ? -a[i] / scale : a[i] / scale;
        int k = 0;
        while (k < 7 && size > (code[k] + code[k + 1]) / 2)
            k++;
        if (fabsf(size - code[k]) > SLACK) return false;
        float low = k ? above[k - 1] : -above[0];
        if (x < low - SLACK || x > above[k] + SLACK) return false;
    }
    return true;
}

bool tmb_on_own_grid(const float *source, const float *got, size_t n, float least)
{
    /* the largest is one of these codes: that tells the scale */
    static const float codes[] = {6, 4, 3, 2, 1.5f, 1, 0.5f};
    float top = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        top = fmaxf(top, fabsf(got[i]));
        most = fmaxf(most, fabsf(source[i]));
    }
    if (top == 0) return most <= least;
    for (size_t k = 0; k < sizeof codes / sizeof *codes; k++)
        if (nearest_under(source, got, n, top / codes[k])) return true;
    return false;
}
