#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_nvfp4 = {.name = "nvfp4"};
