#include "config.h"
#include "moe/quantize/plan.h"
