#include "config.h"
#include "moe/format/format.h"

const tmb_format tmb_format_mxfp4 = {.name = "mxfp4"};
