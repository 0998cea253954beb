#include "config.h"
#include "moe/model/model.h"
