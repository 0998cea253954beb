#include "config.h"
#include "moe/recipe/assign.h"
