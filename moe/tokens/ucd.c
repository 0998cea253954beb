/* ucd.c - looking things up in the generated tables. */
#include "config.h"
#include "moe/tokens/ucd.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

typedef enum category {
    UCD_LU,
    UCD_LT,
    UCD_LL,
    UCD_LM,
    UCD_LO,
    UCD_M,
    UCD_N,
    UCD_P,
    UCD_S,
    UCD_OTHER,
} category;

static const struct {
    uint8_t category, space, han, listed, long_s;
} kinds[] = {
#define UCD_KINDS
#include "moe/tokens/ucd_runs.inc"
#undef UCD_KINDS
};

const tmb_ucd_prop tmb_ucd_props[] = {
#define UCD_PROPS
#include "moe/tokens/ucd_runs.inc"
#undef UCD_PROPS
};

/* pairs: how many characters, which property */
static const uint32_t runs[] = {
#define UCD_RUNS
#include "moe/tokens/ucd_runs.inc"
#undef UCD_RUNS
};

static const uint32_t apart[][5] = {
#define UCD_APART
#include "moe/tokens/ucd_forms.inc"
#undef UCD_APART
};

static const uint32_t pairs[][3] = {
#define UCD_PAIRS
#include "moe/tokens/ucd_forms.inc"
#undef UCD_PAIRS
};

/* Hangul is arithmetic (Unicode 15, section 3.12). */
enum { S_BASE = 0xac00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11a7 };
enum { L_COUNT = 19, V_COUNT = 21, T_COUNT = 28, S_COUNT = L_COUNT * V_COUNT * T_COUNT };

uint8_t *tmb_ucd_table(void)
{
    uint8_t *table = malloc(TMB_UCD_CHARS);
    size_t at = 0;
    for (size_t i = 0; table && i < COUNT(runs); at += runs[i], i += 2)
        memset(table + at, (int)runs[i + 1], runs[i]);
    return table;
}

unsigned tmb_ucd_kinds(void)
{
    return TMB_UCD_FIRST_KIND + COUNT(kinds);
}

static category ascii_category(unsigned c)
{
    if (c >= 'A' && c <= 'Z') return UCD_LU;
    if (c >= 'a' && c <= 'z') return UCD_LL;
    if (c >= '0' && c <= '9') return UCD_N;
    if (c && strchr("$+<=>^`|~", (int)c)) return UCD_S;
    return c > ' ' && c < 0x7f ? UCD_P : UCD_OTHER;
}

bool tmb_ucd_has(unsigned kind, const char *property, size_t n)
{
    static const char *const names[] = {"Lu", "Lt", "Ll", "Lm", "Lo", "M", "N", "P", "S"};
    bool ascii = kind < TMB_UCD_FIRST_KIND;
    size_t i = ascii ? 0 : kind - TMB_UCD_FIRST_KIND;
    category is = ascii ? ascii_category(kind) : (category)kinds[i].category;
#define IS(text) (n == sizeof(text) - 1 && memcmp(property, text, n) == 0)
    if (IS("s")) return ascii ? kind == ' ' || (kind >= 9 && kind <= 13) : kinds[i].space;
    if (IS("Han")) return !ascii && kinds[i].han;
    if (IS("listed")) return !ascii && kinds[i].listed;
    if (IS("long s")) return !ascii && kinds[i].long_s;
    if (IS("L")) return is <= UCD_LO;
#undef IS
    return is != UCD_OTHER && strlen(names[is]) == n && memcmp(names[is], property, n) == 0;
}

bool tmb_ucd_space(const uint8_t *table, uint32_t c)
{
    if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
    return kinds[tmb_ucd_props[table[c]].kind - TMB_UCD_FIRST_KIND].space;
}

static int by_first(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return x[0] < y[0] ? -1 : x[0] > y[0];
}

static int by_pair(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    if (x[0] != y[0]) return x[0] < y[0] ? -1 : 1;
    return x[1] < y[1] ? -1 : x[1] > y[1];
}

size_t tmb_ucd_apart(uint32_t c, uint32_t out[4])
{
    uint32_t s = c - S_BASE;
    if (s < S_COUNT) {
        out[0] = L_BASE + s / (V_COUNT * T_COUNT);
        out[1] = V_BASE + s / T_COUNT % V_COUNT;
        out[2] = T_BASE + s % T_COUNT;
        return out[2] == T_BASE ? 2 : 3;
    }
    const uint32_t *found = bsearch(&c, apart, COUNT(apart), sizeof *apart, by_first);
    size_t n = 0;
    if (!found) {
        out[0] = c;
        return 1;
    }
    for (; n < 4 && found[n + 1]; n++)
        out[n] = found[n + 1];
    return n;
}

uint32_t tmb_ucd_compose(uint32_t a, uint32_t b)
{
    uint32_t l = a - L_BASE, v = b - V_BASE, s = a - S_BASE, t = b - T_BASE;
    if (l < L_COUNT && v < V_COUNT) return S_BASE + (l * V_COUNT + v) * T_COUNT;
    if (s < S_COUNT && s % T_COUNT == 0 && t > 0 && t < T_COUNT) return a + t;
    const uint32_t key[2] = {a, b};
    const uint32_t *found = bsearch(key, pairs, COUNT(pairs), sizeof *pairs, by_pair);
    return found ? found[2] : 0;
}
