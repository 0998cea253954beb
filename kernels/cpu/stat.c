/* stat.c - which table of statistics operations goes with the processor. */
#include "config.h"
#include "kernels/cpu/stat.h"

#include "kernels/cpu/cpu.h"

#include <string.h>

static const tmb_stat *const tables[] = {
    &tmb_stat_ref,
#ifdef HAVE_AVX2
    &tmb_stat_avx2,
#endif
#ifdef HAVE_AVX512
    &tmb_stat_avx512,
#endif
};

static const tmb_stat *named(const char *name)
{
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (!strcmp(tables[i]->name, name)) return tables[i];
    return &tmb_stat_ref;
}

const tmb_stat *tmb_cpu_stat(void)
{
    return named(tmb_cpu_ops()->name);
}

const tmb_stat *tmb_cpu_stat_at(int i)
{
    const tmb_ops *ops = tmb_cpu_ops_at(i);
    return ops ? named(ops->name) : NULL;
}
