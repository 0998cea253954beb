/* utf8.c - is it UTF-8, and where does it break off? */
#include "config.h"
#include "moe/tokens/utf8.h"

#include <string.h>

size_t tmb_utf8_subpart(const uint8_t *p, size_t n, int *whole)
{
    uint8_t low = 0x80, high = 0xbf; /* bounds of the second byte */
    size_t length = 1;
    *whole = p[0] < 0x80;
    if (p[0] < 0xc2 || p[0] > 0xf4) return 1;
    length = tmb_utf8_bytes(p[0]);
    if (p[0] == 0xe0) low = 0xa0;  /* overlong */
    if (p[0] == 0xed) high = 0x9f; /* surrogates */
    if (p[0] == 0xf0) low = 0x90;  /* overlong */
    if (p[0] == 0xf4) high = 0x8f; /* past U+10FFFF */
    size_t i = 1;
    for (; i < length && i < n; i++, low = 0x80, high = 0xbf)
        if (p[i] < low || p[i] > high) break;
    *whole = i == length;
    return i;
}

size_t tmb_utf8_check(const uint8_t *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        while (n - i >= 8 && (memcpy(&eight, text + i, 8), !(eight & 0x8080808080808080u)))
            i += 8;
        if (i == n) break;
        int whole;
        size_t step = tmb_utf8_subpart(text + i, n - i, &whole);
        if (!whole) return i;
        i += step;
    }
    return n;
}
