#include "config.h"
#include "moe/layout/layout.h"

const tmb_layout tmb_layout_modelopt = {.name = "modelopt"};
