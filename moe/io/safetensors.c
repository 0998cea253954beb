#include "config.h"
#include "moe/io/safetensors.h"
