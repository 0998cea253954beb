#include "config.h"
#include "moe/layout/layout.h"

const tmb_layout tmb_layout_compressed_tensors = {.name = "compressed-tensors"};
