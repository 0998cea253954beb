#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_fp8 = {.name = "fp8"};
