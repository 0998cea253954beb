#include "config.h"
#include "moe/verify/verify.h"
