#include "config.h"
#include "moe/io/match.h"
