/* size.c - sizes as people write them: 5G, 512M, 16GiB, 1000000. */
#include "config.h"
#include "moe/recipe/recipe.h"

#include <string.h>

bool tmb_size_parse(const char *text, uint64_t *bytes)
{
    uint64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (!tmb_mul(n, 10, &n) || !tmb_add(n, (uint64_t)(*p - '0'), &n)) return false;
    if (p == text) return false;

    static const char units[] = "KMGT";
    const char *unit = *p ? strchr(units, *p == 'k' ? 'K' : *p) : NULL;
    if (unit) {
        if (!tmb_mul(n, (uint64_t)1 << (10 * (unit - units + 1)), &n)) return false;
        p++;
        if (*p == 'i' && p[1] == 'B') p++;
    }
    if (*p == 'B') p++;
    if (*p) return false;
    *bytes = n;
    return true;
}
