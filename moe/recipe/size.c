/* size.c - sizes as people write them: 5G, 512M, 16GiB, 1.5T, 1000000. */
#include "config.h"
#include "moe/recipe/recipe.h"

#include <string.h>

/* Digits from *p, at most `most` of them; false when there are none, more, or they overflow. */
static bool digits(const char **p, int most, uint64_t *n, int *count)
{
    *n = 0;
    for (*count = 0; **p >= '0' && **p <= '9'; (*p)++, (*count)++)
        if (*count == most || !tmb_mul(*n, 10, n) || !tmb_add(*n, (uint64_t)(**p - '0'), n))
            return false;
    return *count > 0;
}

bool tmb_size_parse(const char *text, uint64_t *bytes)
{
    enum { WHOLE = 20, FRACTION = 6 }; /* 2^40 * 10^6 is below 2^64 */
    static const char units[] = "KMGT";
    uint64_t n, part = 0, scale = 1;
    int count, places = 0;
    const char *p = text;
    if (!digits(&p, WHOLE, &n, &count)) return false;
    if (*p == '.' && (p++, !digits(&p, FRACTION, &part, &places))) return false;

    const char *unit = *p ? strchr(units, *p == 'k' ? 'K' : *p) : NULL;
    if (unit) {
        scale = (uint64_t)1 << (10 * (unit - units + 1));
        p++;
        if (*p == 'i' && p[1] == 'B') p++;
    }
    if (*p == 'B') p++;
    if (*p || (places && !unit)) return false;
    part *= scale;
    for (; places > 0; places--)
        part /= 10;
    return tmb_mul(n, scale, &n) && tmb_add(n, part, bytes);
}
