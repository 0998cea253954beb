/* boot.c - drawing sequences with replacement, and the interval of what comes of it. */
#include "config.h"
#include "moe/diagnose/boot.h"

#include "moe/tokens/random.h"

#include <math.h>
#include <stdlib.h>

tmb_status tmb_boot_open(tmb_boot *out, size_t sequences, uint32_t replicates, uint64_t seed,
                         tmb_err *err)
{
    uint32_t n = replicates ? replicates : TMB_BOOT_REPLICATES;
    uint64_t bytes = 0;
    *out = (tmb_boot){.sequences = sequences, .replicates = n};
    if (sequences > UINT16_MAX)
        return tmb_fail(err, TMB_EUSAGE, "%zu sequences are too many; take --samples %u or fewer",
                        sequences, UINT16_MAX);
    if (tmb_mul(n, sequences * sizeof *out->times, &bytes)) out->times = calloc(1, bytes + 1);
    if (!out->times) return tmb_fail_memory(err, bytes, "the bootstrap");
    tmb_random random = tmb_random_open(seed, 0);
    for (uint32_t b = 0; b < n; b++)
        for (size_t s = 0; s < sequences; s++)
            out->times[b * sequences + tmb_random_below(&random, sequences)]++;
    return TMB_OK;
}

void tmb_boot_close(tmb_boot *boot)
{
    free(boot->times);
    *boot = (tmb_boot){0};
}

void tmb_boot_centre(const tmb_boot *boot, double value, double *draws)
{
    double sum = 0;
    for (uint32_t b = 0; b < boot->replicates; b++)
        sum += draws[b];
    double shift = value - sum / boot->replicates;
    for (uint32_t b = 0; b < boot->replicates; b++)
        draws[b] = draws[b] + shift > 0 ? draws[b] + shift : 0; /* none of them can be negative */
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

tmb_interval tmb_boot_interval(const tmb_boot *boot, double value, double *draws)
{
    size_t n = 0;
    for (uint32_t b = 0; b < boot->replicates; b++)
        if (!isnan(draws[b])) draws[n++] = draws[b];
    if (boot->sequences < 2 || !n || isnan(value))
        return (tmb_interval){value, (double)NAN, (double)NAN};
    qsort(draws, n, sizeof *draws, by_value);
    size_t cut = n / 40; /* 2.5 % at each end */
    return (tmb_interval){value, draws[cut], draws[n - 1 - cut]};
}

tmb_interval tmb_boot_ratio(const tmb_boot *boot, const double *num, const double *den, size_t step)
{
    double *draws = malloc((boot->replicates + 1) * sizeof *draws), n = 0, d = 0;
    for (size_t s = 0; s < boot->sequences; s++) {
        n += num[s * step];
        d += den[s * step];
    }
    if (!draws) return (tmb_interval){n / d, (double)NAN, (double)NAN};
    for (uint32_t b = 0; b < boot->replicates; b++) {
        const uint16_t *times = boot->times + b * boot->sequences;
        double bn = 0, bd = 0;
        for (size_t s = 0; s < boot->sequences; s++) {
            bn += times[s] * num[s * step];
            bd += times[s] * den[s * step];
        }
        draws[b] = bn / bd;
    }
    tmb_interval i = tmb_boot_interval(boot, n / d, draws);
    free(draws);
    return i;
}
