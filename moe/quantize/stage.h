/* stage.h - the input on its way from the disk: read ahead, in the order of the work, into a ring.
 *
 * The list of work is cut into steps.  A step is what is read at once: a copied range, a bundle, or
 * some rows of a bundle that is too large for the ring.  Reading runs ahead as far as the ring
 * reaches; threads take items of work from the steps that are there; a step whose items are all
 * done gives its memory back.  A bundle that fits is read once, for its joint scale and for its
 * codes; a larger one is read twice.
 *
 * What is in the page cache already is taken from there; other large reads go past it, because
 * filling it costs more processor time than everything that is done with a weight
 * (doc/speed.md). */
#ifndef TMB_QUANTIZE_STAGE_H
#define TMB_QUANTIZE_STAGE_H

#include "moe/quantize/monitor.h"
#include "moe/quantize/work.h"

#include "moe/io/staged.h"

enum { TMB_STEPS = 256, TMB_NO_DIRECT = -1, TMB_NOT_OPENED = -2 };

/* How a bundle is worked on, which depends on the size of the ring but never changes the bytes. */
typedef enum tmb_way {
    TMB_WAY_ALONE,    /* read at once, one thread does it all */
    TMB_WAY_SHARED,   /* read at once, threads share its tiles */
    TMB_WAY_STREAM,   /* larger than the ring allows: some rows at a time, threads share them */
    TMB_WAY_UNSTAGED, /* larger, and its rows are not apart: one thread reads what it needs */
} tmb_way;

/* ---- a bundle whose tiles are shared ----------------------------------------------------------
 */

typedef struct tmb_shared {
    const tmb_bundle *bundle;
    float *amax;                    /* [n_units] */
    uint64_t *tile_first;           /* [n_units]: of its tiles in `tiles` */
    tmb_sums *tiles;                /* the error of each */
    uint64_t scan_left, write_left; /* tiles */
    bool joined;                    /* amax is that of all that share */
    bool finishing;                 /* somebody writes its numbers, or has */
} tmb_shared;

/* ---- steps and items ---------------------------------------------------------------------------
 */

typedef enum tmb_step_kind { TMB_STEP_COPY, TMB_STEP_ALONE, TMB_STEP_TILES } tmb_step_kind;

typedef struct tmb_step {
    tmb_step_kind kind;
    size_t piece;
    tmb_staged staged;
    uint64_t bytes; /* of the ring, with what was left out before it */
    bool ready;     /* it is read */
    bool handed;    /* COPY, ALONE: the one item is out */
    unsigned out;   /* items that threads are at */
    /* TILES: rows [row, row_end) of units [unit, unit_end) of the bundle; several only when all of
     * their rows are there */
    tmb_shared *shared;
    uint32_t unit, unit_end;
    uint64_t row, row_end;
    bool scan, write; /* what is to be done with them */
    bool last;        /* of its piece */
    struct {
        uint32_t unit;
        uint64_t row;
    } scanned, written; /* where the next item begins */
} tmb_step;

typedef enum tmb_item_kind {
    TMB_ITEM_COPY,
    TMB_ITEM_ALONE,
    TMB_ITEM_SCAN,
    TMB_ITEM_WRITE,
    TMB_ITEM_FINISH, /* numbers and sums of a shared bundle */
} tmb_item_kind;

typedef struct tmb_item {
    tmb_item_kind kind;
    tmb_step *step;
    uint32_t unit;       /* SCAN, WRITE: index into the bundle */
    uint64_t begin, end; /* and rows */
} tmb_item;

typedef struct tmb_stage {
    const tmb_plan *plan;
    const tmb_work *work;
    tmb_monitor *monitor;
    uint8_t *ring;
    uint64_t bytes, head, used; /* used: from head - used to head, around the end */
    tmb_step *steps;            /* [TMB_STEPS], a ring too */
    size_t first, n;
    /* where the next step begins */
    size_t piece;
    tmb_shared *shared; /* of a streamed bundle that was begun */
    bool scanning;      /* it is in its first round */
    uint32_t unit;
    uint64_t row;

    int *direct;      /* [n_shards]: descriptor, TMB_NO_DIRECT or TMB_NOT_OPENED */
    bool cached;      /* never past the cache */
    unsigned reading; /* steps */
} tmb_stage;

tmb_status tmb_stage_open(tmb_stage *stage, const tmb_plan *plan, const tmb_work *work,
                          tmb_monitor *monitor, bool cached, tmb_err *err) TMB_CHECKED;
void tmb_stage_close(tmb_stage *stage);

/* Bytes of the ring: what a job wants, and the least it works with. */
uint64_t tmb_stage_wanted(const tmb_plan *plan);
uint64_t tmb_stage_least(const tmb_plan *plan);
/* Bookkeeping besides the ring. */
uint64_t tmb_stage_overhead(const tmb_plan *plan);
tmb_way tmb_way_of(const tmb_plan *plan, const tmb_bundle *bundle, uint64_t stage_bytes);

/* Inside the monitor.  *step: the next one, whose memory is its own from now on; NULL when there is
 * none, or no room. */
tmb_status tmb_stage_next(tmb_stage *stage, tmb_step **step, tmb_err *err) TMB_CHECKED;
/* Outside: read it, and say so. */
tmb_status tmb_stage_read(tmb_stage *stage, tmb_step *step, tmb_err *err) TMB_CHECKED;
/* Inside: the next item of work; false when there is none now. */
bool tmb_stage_take(tmb_stage *stage, tmb_item *item);
/* Inside: it is done.  amax: of a SCAN.  true: its piece is done with it. */
bool tmb_stage_give(tmb_stage *stage, const tmb_item *item, float amax);
/* Inside: everything was read and done. */
bool tmb_stage_finished(const tmb_stage *stage);

/* ---- between steps.c and stage.c --------------------------------------------------------------
 */

/* Fill the next step but for its memory, and move the cursor; false at the end of the work. */
tmb_status tmb_step_make(tmb_stage *stage, tmb_step *step, bool *made, tmb_err *err) TMB_CHECKED;
void tmb_shared_free(tmb_shared *shared);

#endif
