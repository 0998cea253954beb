#include "config.h"
#include "kernels/cpu/cpu.h"
