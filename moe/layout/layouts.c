#include "config.h"
#include "moe/layout/layouts.h"

#include <stddef.h>
#include <string.h>

#define X(name) extern const tmb_layout tmb_layout_##name;
#include "moe/layout/registry.inc"
#undef X

static const tmb_layout *const layouts[] = {
#define X(name) &tmb_layout_##name,
#include "moe/layout/registry.inc"
#undef X
    NULL,
};

const tmb_layout *tmb_layout_at(int i)
{
    return layouts[i];
}

const tmb_layout *tmb_layout_find(const char *name)
{
    for (int i = 0; layouts[i]; i++)
        if (strcmp(layouts[i]->name, name) == 0) return layouts[i];
    return NULL;
}
