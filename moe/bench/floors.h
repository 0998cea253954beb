/* floors.h - what the disk does when nothing is computed: the floor under a job that reads some
 * files once and writes some bytes once.
 *
 * A plain program: it reads the files from their start to their end in large blocks, out of a cold
 * cache, and writes as many bytes and flushes them.  Once through the page cache, as such a program
 * does unless told, and once past it. */
#ifndef TMB_BENCH_FLOORS_H
#define TMB_BENCH_FLOORS_H

#include "kernels/base/err.h"
#include "kernels/base/progress.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct tmb_floor {
    double read, write, both; /* seconds: one, the other, both at once; 0: not measured */
    uint64_t read_bytes, write_bytes;
} tmb_floor;

enum { TMB_FLOOR_READ = 1, TMB_FLOOR_WRITE = 2, TMB_FLOOR_BOTH = 4 };

/* what: a sum of TMB_FLOOR_*.  The *.safetensors files of the folder are read; a file in `out`, a
 * folder on the disk in question, takes write_bytes and is removed.  Keeps the best of calls with
 * the same floor. */
tmb_status tmb_floor_measure(tmb_floor *floor, unsigned what, const char *folder, const char *out,
                             uint64_t write_bytes, bool cached, const tmb_watch *watch,
                             tmb_err *err) TMB_CHECKED;
/* Make what is cached of the folder's files cold. */
void tmb_floor_cool(const char *folder);

#endif
