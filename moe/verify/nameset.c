/* nameset.c - sorted names and the questions of nameset.h. */
#include "config.h"
#include "moe/verify/nameset.h"

#include <stdlib.h>
#include <string.h>

bool tmb_nameset_add(tmb_nameset *names, const char *text, uint32_t value)
{
    if (names->n == names->room) {
        uint32_t room = names->room ? names->room * 2 : 64;
        if (room <= names->room) return false;
        tmb_name *grown = realloc(names->items, room * sizeof *grown);
        if (!grown) return false;
        names->items = grown;
        names->room = room;
    }
    names->items[names->n++] = (tmb_name){.text = text, .value = value};
    names->sorted = false;
    return true;
}

static int by_text(const void *a, const void *b)
{
    const tmb_name *x = a, *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : (x->value > y->value) - (x->value < y->value);
}

void tmb_nameset_sort(tmb_nameset *names)
{
    if (names->n) qsort(names->items, names->n, sizeof *names->items, by_text);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < names->n; i++)
        if (!kept || strcmp(names->items[kept - 1].text, names->items[i].text) != 0)
            names->items[kept++] = names->items[i];
    names->n = kept;
    names->sorted = true;
}

void tmb_nameset_free(tmb_nameset *names)
{
    free(names->items);
    *names = (tmb_nameset){0};
}

uint32_t tmb_nameset_find(const tmb_nameset *names, const char *text)
{
    return tmb_nameset_find_n(names, text, strlen(text));
}

/* Order of an item against text [n]. */
static int against(const char *item, const char *text, size_t n)
{
    int order = strncmp(item, text, n);
    return order ? order : item[n] != 0;
}

const tmb_name *tmb_nameset_item(const tmb_nameset *names, const char *text, size_t n)
{
    uint32_t lo = 0, hi = names->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int order = against(names->items[mid].text, text, n);
        if (order == 0) return &names->items[mid];
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

uint32_t tmb_nameset_find_n(const tmb_nameset *names, const char *text, size_t n)
{
    const tmb_name *item = tmb_nameset_item(names, text, n);
    return item ? item->value : TMB_NO_NAME;
}

/* Narrow [*lo, *hi), whose items agree up to `depth`, to those with c there.  An item that ends
 * at `depth` has a NUL there and sorts first. */
static void narrow(const tmb_nameset *names, uint32_t *lo, uint32_t *hi, size_t depth,
                   unsigned char c)
{
    uint32_t a = *lo, b = *hi;
    while (a < b) {
        uint32_t mid = a + (b - a) / 2;
        if ((unsigned char)names->items[mid].text[depth] < c)
            a = mid + 1;
        else
            b = mid;
    }
    *lo = a;
    b = *hi;
    while (a < b) {
        uint32_t mid = a + (b - a) / 2;
        if ((unsigned char)names->items[mid].text[depth] <= c)
            a = mid + 1;
        else
            b = mid;
    }
    *hi = a;
}

const char *tmb_nameset_within(const tmb_nameset *names, const char *text)
{
    for (const char *start = text; *start; start++) {
        uint32_t lo = 0, hi = names->n;
        for (size_t depth = 0; start[depth]; depth++) {
            narrow(names, &lo, &hi, depth, (unsigned char)start[depth]);
            if (lo >= hi) break;
            const char *item = names->items[lo].text;
            bool whole = start == text && start[depth + 1] == 0;
            if (item[depth + 1] == 0 && !whole) return item;
        }
    }
    return NULL;
}

const tmb_name *tmb_nameset_below(const tmb_nameset *names, const char *prefix)
{
    uint32_t lo = 0, hi = names->n;
    size_t depth = 0;
    for (; prefix[depth] && lo < hi; depth++)
        narrow(names, &lo, &hi, depth, (unsigned char)prefix[depth]);
    if (lo < hi) narrow(names, &lo, &hi, depth, '.');
    const tmb_name *best = NULL;
    for (uint32_t i = lo; i < hi; i++)
        if (!best || names->items[i].value < best->value) best = &names->items[i];
    return best;
}
