/* progress.h - a long job's progress on standard error.
 *
 * auto: a bar when standard error is a terminal, else plain.  plain: one line every 30 seconds.
 * json: one object a line: start, progress at most once a second, end.  none: nothing. */
#ifndef TMB_SRC_PROGRESS_H
#define TMB_SRC_PROGRESS_H

#include "kernels/base/progress.h"
#include "src/args.h"

typedef enum tmb_meter_mode {
    TMB_METER_NONE,
    TMB_METER_BAR,
    TMB_METER_PLAIN,
    TMB_METER_JSON
} tmb_meter_mode;

typedef struct tmb_meter {
    tmb_meter_mode mode;
    FILE *to;
    const char *phase;
    double began, shown;  /* seconds on the monotonic clock */
    uint64_t first_bytes; /* done when the phase began: a resumed job starts above 0 */
    tmb_progress last;
    bool drawn;
} tmb_meter;

void tmb_meter_open(tmb_meter *meter, const tmb_common *common);
/* What a job is given; borrowed from the meter. */
tmb_watch tmb_meter_watch(tmb_meter *meter);
/* Clears the bar; ends the JSON stream.  Call it before anything else is printed. */
void tmb_meter_close(tmb_meter *meter);

/* Split out for the tests.  line [size]: one line of at most `columns`, no newline. */
void tmb_meter_line(const tmb_meter *meter, double now, int columns, char *line, size_t size);

#endif
