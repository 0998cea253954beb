/* stats.h - what the parts of tombac stats share. */
#ifndef TMB_SRC_STATS_H
#define TMB_SRC_STATS_H

#include "moe/calib/file.h"
#include "src/emit.h"

enum { TMB_LAYER_LABEL = 16 };

/* "3", "head". */
const char *tmb_layer_label(char out[TMB_LAYER_LABEL], int32_t layer);
/* What a file is of, to a JSON object. */
void tmb_stats_emit(tmb_emit *e, tmb_json *object, const tmb_stats_file *file);

#endif
