#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_mxfp8 = {.name = "mxfp8"};
