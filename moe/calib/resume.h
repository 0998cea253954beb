/* resume.h - the folder STATS.h5.partial, where a calibration that was stopped goes on.
 *
 *   state.json              what job this is, and how far it came; replaced whole
 *   lock                    held (flock) by the process that works on it; its pid is in it
 *   round-R-layer-L.h5      statistics of a finished layer
 *   round-R.h5              of a finished round, when there are several
 *   hidden-0, hidden-1      hidden.h
 *
 * The folder is an input like any other: state.json is checked, statistics files carry digests, and
 * hidden states that are no numbers stop the layer that reads them. */
#ifndef TMB_CALIB_RESUME_H
#define TMB_CALIB_RESUME_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What has to be equal for a run to be continued, each a text that shows the difference. */
typedef struct tmb_calib_identity {
    const char *version;    /* of tombac */
    const char *checkpoint; /* its fingerprint */
    const char *data;       /* SHA-256 of the ids */
    const char *settings;   /* "samples 512 of 512, min_tokens 0, hessian block16, …" */
} tmb_calib_identity;

/* How far a run came. */
typedef struct tmb_calib_state {
    uint32_t round;  /* being worked on */
    uint32_t layers; /* finished in it; 0: perhaps not even begun */
    bool embedded;   /* hidden-0 holds the embeddings, or what came after */
} tmb_calib_state;

typedef struct tmb_calib_folder {
    char *path;
    int dirfd, lockfd;
    bool resumed; /* there was a state to go on from */
} tmb_calib_folder;

/* Take the folder: make it, lock it, and read how far it came.  TMB_ECREATE when another process
 * holds it (with its pid), TMB_EUSAGE when it belongs to another job (says what differs) and
 * `restart` is false.  f is zeroed by the caller and given back with tmb_calib_folder_close() also
 * after a failure. */
tmb_status tmb_calib_folder_open(tmb_calib_folder *f, const char *path,
                                 const tmb_calib_identity *identity, bool restart,
                                 tmb_calib_state *state, tmb_err *err) TMB_CHECKED;
/* Of a rank that does not lead: only the folder. */
tmb_status tmb_calib_folder_join(tmb_calib_folder *f, const char *path, tmb_err *err) TMB_CHECKED;
void tmb_calib_folder_close(tmb_calib_folder *f);

/* Write how far it came, to the disk. */
tmb_status tmb_calib_folder_save(const tmb_calib_folder *f, const tmb_calib_identity *identity,
                                 const tmb_calib_state *state, tmb_err *err) TMB_CHECKED;
/* Everything of ours in it, and the folder. */
void tmb_calib_folder_remove(tmb_calib_folder *f);

/* Path of a layer's or (layer < 0) a round's statistics; malloc'ed, the caller's; NULL without
 * memory. */
char *tmb_calib_part(const tmb_calib_folder *f, uint32_t round, int layer);

#endif
