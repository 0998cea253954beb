#include "config.h"
#include "moe/model/weight.h"
