#include "config.h"
#include "moe/io/json.h"
