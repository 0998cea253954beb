/* plant.c - plant SOURCE OUT FAULT WORDS…: a checkpoint with one fault, or one change that is none
 * (plant_faults.h lists them). */
#include "config.h"
#include "tests/plant_faults.h"

int main(int argc, char **argv)
{
    tmb_err err = {0};
    if (argc < 4) {
        fputs("usage: plant SOURCE OUT FAULT WORDS... (see plant_faults.h)\n", stderr);
        return 64;
    }
    if (plant_fault(argv[1], argv[2], argc - 3, (const char *const *)argv + 3, &err)) return 0;
    fprintf(stderr, "plant: %s: this fault cannot be planted here%s%s\n", argv[1],
            *err.message ? ": " : "", err.message);
    return 65;
}
