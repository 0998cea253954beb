#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_int4 = {.name = "int4"};
