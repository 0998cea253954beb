/* folder.h - what lies in a checkpoint's folder, by name; internal to checkpoint.c. */
#ifndef TMB_IO_FOLDER_H
#define TMB_IO_FOLDER_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct tmb_folder {
    const char *path; /* as the user gave it, without a final slash */
    int dirfd;
    const char **names; /* sorted, without "." and ".." */
    size_t n_names;
} tmb_folder;

/* Open and list path; what it allocates is the arena's, dirfd the caller's.  The messages are for
 * somebody who gave the wrong path: what it is, and what to give instead. */
tmb_status tmb_folder_open(tmb_folder *out, const char *path, tmb_arena *arena,
                           tmb_err *err) TMB_CHECKED;
bool tmb_folder_has(const tmb_folder *folder, const char *name);
/* The shards of a folder without an index: one name. */
tmb_status tmb_folder_single(const tmb_folder *folder, const char **name, tmb_err *err) TMB_CHECKED;
/* Sort what is left, by name alone: is it carried over, or left unread? */
bool tmb_is_carried(const char *name);
/* Are a and b shards of one set, STEM-k-of-N.safetensors with the same STEM and N? */
bool tmb_same_set(const char *a, const char *b);

#endif
