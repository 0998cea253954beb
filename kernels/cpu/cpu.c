/* cpu.c - which operation tables this processor runs, and which is taken. */
#include "config.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/tables.h"

#include <stdlib.h>
#include <string.h>

/* From the plainest to the fastest. */
static const tmb_ops *const tables[] = {
    &tmb_ops_ref,
};
enum { TABLES = sizeof tables / sizeof *tables };

static bool runs_here(int i)
{
    return tables[i] != NULL;
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
