#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_fp8_block = {.name = "fp8-block"};
