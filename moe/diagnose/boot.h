/* boot.h - 95 % intervals by resampling sequences (Efron and Tibshirani, An Introduction to the
 * Bootstrap, 1993, chapter 13: the percentile interval).
 *
 * Tokens of one sequence are not independent, sequences are; so whole sequences are drawn, as many
 * as there are, with replacement.  The draws come from xoshiro256** and depend on the seed and the
 * number of sequences alone: every figure of a diagnosis is resampled alike. */
#ifndef TMB_DIAGNOSE_BOOT_H
#define TMB_DIAGNOSE_BOOT_H

#include "kernels/base/err.h"
#include "moe/diagnose/diagnosis.h"

enum { TMB_BOOT_REPLICATES = 1000, TMB_BOOT_SEED = 42 };

typedef struct tmb_boot {
    size_t sequences;
    uint32_t replicates;
    uint16_t *times; /* [replicates, sequences] how often a sequence was drawn */
} tmb_boot;

/* replicates 0: TMB_BOOT_REPLICATES.  TMB_EUSAGE for over 65,535 sequences, TMB_ESYSTEM. */
tmb_status tmb_boot_open(tmb_boot *out, size_t sequences, uint32_t replicates, uint64_t seed,
                         tmb_err *err) TMB_CHECKED;
void tmb_boot_close(tmb_boot *boot);

/* Of sum(num) / sum(den) over sequences; num, den [sequences], `step` numbers apart. */
tmb_interval tmb_boot_ratio(const tmb_boot *boot, const double *num, const double *den,
                            size_t step);
/* Move draws so that their mean is value: for a figure that resampling itself raises (how uneven
 * counts are), whose plain interval would lie above what was measured (Efron and Tibshirani, 10.6).
 */
void tmb_boot_centre(const tmb_boot *boot, double value, double *draws);
/* value, with the 2.5 and 97.5 per cent points of draws [boot->replicates], which are sorted here;
 * NaN ones do not count.  One sequence: lo and hi NaN. */
tmb_interval tmb_boot_interval(const tmb_boot *boot, double value, double *draws);

#endif
