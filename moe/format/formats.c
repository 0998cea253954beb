#include "config.h"
#include "moe/format/formats.h"

#include <stddef.h>
#include <string.h>

#define X(name) extern const tmb_format tmb_format_##name;
#include "moe/format/registry.inc"
#undef X

static const tmb_format *const formats[] = {
#define X(name) &tmb_format_##name,
#include "moe/format/registry.inc"
#undef X
    NULL,
};

const tmb_format *tmb_format_at(int i)
{
    return formats[i];
}

const tmb_format *tmb_format_find(const char *name)
{
    for (int i = 0; formats[i]; i++)
        if (strcmp(formats[i]->name, name) == 0) return formats[i];
    return NULL;
}

uint64_t tmb_format_row_offset(const tmb_geometry *g, uint64_t out, uint64_t row)
{
    if (g->rank != 2 || g->shape[0] == 0) return 0;
    uint64_t rows_per = g->shape[0] == out ? 1 : TMB_TILE_ROWS;
    return row / rows_per * (g->bytes / g->shape[0]);
}
