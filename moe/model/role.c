#include "config.h"
#include "moe/model/role.h"
