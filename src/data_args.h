/* data_args.h - --data and [calibration]: the sequences a command runs a model over. */
#ifndef TMB_SRC_DATA_ARGS_H
#define TMB_SRC_DATA_ARGS_H

#include "src/args.h"
#include "src/job.h"

#include "moe/tokens/data.h"

/* The sources of --data, or without any those of the job's recipe, sampled as its [calibration]
 * says; texts through the checkpoint's own tokenizer.json; ids checked against its embedding.
 * ids_type: "uint16", "uint32" or NULL.  TMB_EUSAGE when neither names a source. */
tmb_status tmb_calibration_data(tmb_data **out, const tmb_job *job, const tmb_texts *data,
                                const char *ids_type, tmb_err *err) TMB_CHECKED;

#endif
