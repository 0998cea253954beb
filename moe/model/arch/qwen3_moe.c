#include "config.h"
#include "moe/model/arch.h"

#include <stddef.h>

static const char *const types[] = {"qwen3_moe", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const tmb_arch_row rows[] = {{NULL, 0, 0, 0}};
static const tmb_arch_fuse fuses[] = {{{NULL}, {NULL}}};
const tmb_arch tmb_arch_qwen3_moe = {
    .name = "qwen3_moe", .model_types = types, .prefixes = prefixes, .rows = rows, .fuses = fuses};
