#include "config.h"
#include "moe/quantize/quantize.h"
