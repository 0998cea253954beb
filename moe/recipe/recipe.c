#include "config.h"
#include "moe/recipe/recipe.h"
