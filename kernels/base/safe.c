#include "config.h"
#include "kernels/base/safe.h"

#include <stdio.h>

int tmb_utf8(const char *text, uint32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *code = s[0];
        return 1;
    }
    int n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (!n || s[0] >= 0xf5) return 0;
    uint32_t c = s[0] & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0; /* also stops at the final NUL */
        c = c << 6 | (s[i] & 0x3f);
    }
    bool overlong = (n == 3 && c < 0x800) || (n == 4 && c < 0x10000);
    if (overlong || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *code = c;
    return n;
}

bool tmb_printable(uint32_t c)
{
    static const uint32_t bad[][2] = {
        {0, 0x1f},        {0x7f, 0x9f},     /* control characters */
        {0xad, 0xad},     {0x200b, 0x200f}, /* nothing to see, or a direction */
        {0x61c, 0x61c},   {0x2028, 0x202e}, /* a direction; new lines, and directions that stay */
        {0x2060, 0x2069}, {0xfeff, 0xfeff},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (c >= bad[i][0] && c <= bad[i][1]) return false;
    return true;
}

const char *tmb_safe(char *out, size_t size, const char *text)
{
    const char *s = text ? text : "";
    size_t o = 0;
    while (*s) {
        uint32_t c = 0;
        int n = tmb_utf8(s, &c);
        bool plain = n && tmb_printable(c);
        if (!n) n = 1;
        if (o + (plain ? (size_t)n : 4 * (size_t)n) + 1 > size) break;
        for (int i = 0; i < n; i++) {
            if (plain)
                out[o++] = s[i];
            else
                o += (size_t)snprintf(out + o, size - o, "\\x%02x", (unsigned char)s[i]);
        }
        s += n;
    }
    if (size) out[o] = 0;
    return out;
}
