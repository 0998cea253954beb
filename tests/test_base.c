#include "config.h"
#include "kernels/base/dtype.h"
#include "kernels/base/err.h"
#include "kernels/base/mem.h"
#include "tests/tap.h"

#include <errno.h>
#include <string.h>

static void test_err(void)
{
    tmb_err err = {0};
    ok(tmb_fail(&err, TMB_EDATA, "%s: bad", "a\nb") == TMB_EDATA, "a failure returns its status");
    ok(strcmp(err.message, "a\\x0ab: bad") == 0, "control characters are escaped");
    errno = ENOENT;
    tmb_fail_errno(&err, TMB_ENOINPUT, "x: cannot open");
    ok(strcmp(err.message, "x: cannot open: No such file or directory") == 0, "errno is told");
    ok(tmb_fail(NULL, TMB_EIO, "x") == TMB_EIO, "nobody need listen");
    char longer[3000];
    memset(longer, 1, sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    tmb_fail(&err, TMB_EDATA, "%s", longer);
    ok(strlen(err.message) < TMB_ERR_BYTES, "a long message is cut, not overrun");
}

static void test_mem(void)
{
    uint64_t n = 7;
    ok(!tmb_mul(UINT64_MAX, 2, &n) && n == 7, "multiplication that wraps is refused");
    ok(!tmb_add(UINT64_MAX, 1, &n) && n == 7, "addition that wraps is refused");
    ok(tmb_mul(3, 5, &n) && n == 15, "3 * 5 = 15");
    ok(tmb_ceil_div(UINT64_MAX, 2) == UINT64_MAX / 2 + 1, "ceil_div does not wrap");
    tmb_arena a = {0};
    char *first = tmb_arena_text(&a, "abc", 3);
    char *big = tmb_arena_alloc(&a, 1 << 20);
    char *second = tmb_arena_printf(&a, "%d-%s", 5, "x");
    ok(first && big && second && !strcmp(first, "abc") && !strcmp(second, "5-x"),
       "an arena keeps small and large pieces apart");
    ok(big[0] == 0 && big[(1 << 20) - 1] == 0 && (uintptr_t)big % 16 == 0, "zeroed and aligned");
    tmb_arena_free(&a);
    ok(a.head == NULL, "an arena is given back whole");
}

static void test_dtype(void)
{
    int good = 1;
    for (int i = 0; i < TMB_DTYPES; i++) {
        tmb_dtype d;
        const char *name = tmb_dtype_name((tmb_dtype)i);
        good &= tmb_dtype_find(name, strlen(name), &d) && (int)d == i && tmb_dtype_bits(d) > 0;
    }
    tmb_dtype d;
    ok(good, "every dtype is found by its name");
    ok(!tmb_dtype_find("BF1", 3, &d) && !tmb_dtype_find("BF160", 5, &d), "and no other name is");
}

int main(void)
{
    test_err();
    test_mem();
    test_dtype();
    return done();
}
