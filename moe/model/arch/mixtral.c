#include "config.h"
#include "moe/model/arch.h"

#include <stddef.h>

static const char *const types[] = {"mixtral", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {{NULL, 0, 0, 0}};
static const tmb_arch_fuse fuses[] = {{{NULL}, {NULL}}};
const tmb_arch tmb_arch_mixtral = {
    .name = "mixtral", .model_types = types, .prefixes = prefixes, .rows = rows, .fuses = fuses};
