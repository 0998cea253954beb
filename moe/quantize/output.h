/* output.h - the folder that is made: whose it is, what may be in it, who works on it.
 *
 * A folder is taken when it does not exist (its parent must), is empty, or holds an unfinished run
 * of the same job.  Refused, before anything in it is touched: the source or a folder inside it
 * (by inode), a finished output, files that are not ours, an unfinished run of another job, a
 * folder that another process works on. */
#ifndef TMB_QUANTIZE_OUTPUT_H
#define TMB_QUANTIZE_OUTPUT_H

#include "moe/quantize/journal.h"
#include "moe/quantize/quantize.h"

typedef struct tmb_output {
    const tmb_plan *plan;
    char *folder; /* as given, without a final slash */
    int dirfd, lockfd;
    bool created; /* by this run */
    bool taken;   /* the journal is ours to write */
    tmb_journal journal;
} tmb_output;

/* restart: discard what an unfinished run left, whatever job it was. */
tmb_status tmb_output_open(tmb_output *o, const tmb_plan *plan, const char *folder, bool restart,
                           tmb_err *err) TMB_CHECKED;
/* Give everything back; what was published and its journal stay.  Where nothing was published the
 * journal goes, and with it a folder that this run made. */
void tmb_output_close(tmb_output *o);
/* The journal is no longer needed: the output is complete. */
tmb_status tmb_output_done(tmb_output *o, tmb_err *err) TMB_CHECKED;

#endif
