#include "config.h"
#include "moe/io/files.h"
