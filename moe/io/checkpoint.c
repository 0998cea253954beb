#include "config.h"
#include "moe/io/checkpoint.h"
