#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_nvfp4_w4a16 = {.name = "nvfp4-w4a16"};
