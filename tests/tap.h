/* tap.h - just enough TAP: ok(), skip_all(), done(). */
#ifndef TAP_H
#define TAP_H
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
static int tap_n, tap_bad;
__attribute__((format(printf, 2, 3))) static inline int ok(int pass, const char *fmt, ...)
{
    va_list ap;
    printf("%sok %d - ", pass ? "" : "not ", ++tap_n);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
    tap_bad += !pass;
    return pass;
}
static inline void skip_all(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    exit(0);
}
static inline int done(void)
{
    printf("1..%d\n", tap_n);
    return tap_bad != 0;
}
#endif
