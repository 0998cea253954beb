#include "config.h"
#include "moe/model/archs.h"

#include <stddef.h>
#include <string.h>

#define X(name) extern const tmb_arch tmb_arch_##name;
#include "moe/model/registry.inc"
#undef X

static const tmb_arch *const archs[] = {
#define X(name) &tmb_arch_##name,
#include "moe/model/registry.inc"
#undef X
    NULL,
};

const tmb_arch *tmb_arch_at(int i)
{
    return archs[i];
}

const tmb_arch *tmb_arch_find(const char *model_type)
{
    for (int i = 0; archs[i]; i++)
        for (const char *const *t = archs[i]->model_types; *t; t++)
            if (strcmp(*t, model_type) == 0) return archs[i];
    return NULL;
}

const tmb_arch *tmb_arch_unknown(void)
{
    return tmb_arch_find("");
}
