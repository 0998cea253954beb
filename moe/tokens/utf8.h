/* utf8.h - UTF-8 that has been checked, character by character; internal to moe/tokens. */
#ifndef TMB_TOKENS_UTF8_H
#define TMB_TOKENS_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Offset of the first byte that is not well-formed UTF-8 (Unicode 15, table 3-7); n when all is. */
size_t tmb_utf8_check(const uint8_t *text, size_t n);

/* How many bytes at p are the longest start of a well-formed character, 1 to 4 (Unicode 15, section
 * 3.9, "maximal subpart"); *whole: is the character complete? */
size_t tmb_utf8_subpart(const uint8_t *p, size_t n, int *whole);

/* Bytes of the character that begins with `lead`. */
static inline size_t tmb_utf8_bytes(uint8_t lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* The character at *p, which moves behind it. */
static inline uint32_t tmb_utf8_next(const uint8_t **p)
{
    const uint8_t *s = *p;
    if (s[0] < 0x80) {
        *p += 1;
        return s[0];
    }
    if (s[0] < 0xe0) {
        *p += 2;
        return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    }
    if (s[0] < 0xf0) {
        *p += 3;
        return (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    }
    *p += 4;
    return (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
}

/* The beginning of the character that ends before p. */
static inline const uint8_t *tmb_utf8_before(const uint8_t *p)
{
    do
        p--;
    while ((*p & 0xc0) == 0x80);
    return p;
}

/* Write c to w [4]; its bytes. */
static inline size_t tmb_utf8_put(uint8_t *w, uint32_t c)
{
    if (c < 0x80) {
        w[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        w[0] = (uint8_t)(0xc0 | c >> 6);
        w[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        w[0] = (uint8_t)(0xe0 | c >> 12);
        w[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        w[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    w[0] = (uint8_t)(0xf0 | c >> 18);
    w[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    w[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    w[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

#endif
