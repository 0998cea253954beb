/* cpu.c - which operation tables this processor runs, and which is taken. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tables.h"

#include <stdlib.h>
#include <string.h>
#if defined HAVE_AVX2 || defined HAVE_AVX512
#include <cpuid.h>
#endif

/* From the plainest to the fastest; a table is NULL when this build lacks it. */
static const tmb_ops *const tables[] = {
    &tmb_ops_ref,
#ifdef HAVE_AVX2
    &tmb_ops_avx2,
#else
    NULL,
#endif
#ifdef HAVE_AVX512
    &tmb_ops_avx512,
#else
    NULL,
#endif
#ifdef HAVE_NEON
    &tmb_ops_neon,
#else
    NULL,
#endif
};
enum { TABLES = sizeof tables / sizeof *tables };

static const tmb_nn *const networks[TABLES] = {
    &tmb_nn_ref,
#ifdef HAVE_AVX2
    &tmb_nn_avx2,
#else
    NULL,
#endif
#ifdef HAVE_AVX512
    &tmb_nn_avx512,
#else
    NULL,
#endif
};

#if defined HAVE_AVX2 || defined HAVE_AVX512
/* Not every compiler's __builtin_cpu_supports() knows the name. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

/* The extensions each vector file is compiled for: see m4/tmb_vector.m4. */
static bool runs_here(int i)
{
    if (!tables[i]) return false;
#if defined HAVE_AVX2 || defined HAVE_AVX512
    bool avx2 = __builtin_cpu_supports("avx2") && has_f16c();
    if (i == 1) return avx2;
    if (i == 2)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    return true;
}

const tmb_ops *tmb_cpu_ops_at(int n)
{
    for (int i = 0; i < TABLES; i++)
        if (runs_here(i) && n-- == 0) return tables[i];
    return NULL;
}

const tmb_ops *tmb_cpu_ops_named(const char *name)
{
    for (int i = 0; i < TABLES; i++)
        if (runs_here(i) && strcmp(tables[i]->name, name) == 0) return tables[i];
    return NULL;
}

const tmb_ops *tmb_cpu_ops(void)
{
    const char *asked = getenv("TOMBAC_CPU");
    const tmb_ops *ops = asked ? tmb_cpu_ops_named(asked) : NULL;
    for (int i = TABLES - 1; !ops; i--)
        if (runs_here(i)) ops = tables[i];
    return ops;
}

static bool network_runs_here(int i)
{
    if (!networks[i] || !runs_here(i)) return false;
#ifdef HAVE_AVX2
    if (i == 1) return __builtin_cpu_supports("fma");
#endif
    return true;
}

const tmb_nn *tmb_cpu_nn_at(int n)
{
    for (int i = 0; i < TABLES; i++)
        if (network_runs_here(i) && n-- == 0) return networks[i];
    return NULL;
}

const tmb_nn *tmb_cpu_nn(void)
{
    const char *asked = getenv("TOMBAC_CPU");
    const tmb_nn *nn = NULL;
    for (int i = 0; asked && i < TABLES; i++)
        if (network_runs_here(i) && strcmp(networks[i]->name, asked) == 0) nn = networks[i];
    for (int i = TABLES - 1; !nn; i--)
        if (network_runs_here(i)) nn = networks[i];
    return nn;
}
