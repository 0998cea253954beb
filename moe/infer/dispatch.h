/* dispatch.h - where routed experts live, and how rows get there and back.  For moe/infer/ alone.
 *
 * The ranks of a communicator form groups of `ways` neighbours.  Within a group experts are dealt
 * like cards: expert e lives with member e % ways, as its slot e / ways; a rank reads the weights
 * of its own.  Without a communicator a group is one rank, and a slot is an expert.
 *
 * Rows travel in steps.  A step is a range of slots, the same on every rank, or a range of tokens
 * of one slot: its experts are ascending on all members together, so the results of a token come
 * back in the order of its experts, whatever `ways` is, and are added in that order.  No rank has
 * more than TMB_STEP_ROWS rows under way or at hand.
 *
 *     tmb_flow_open(&flow, run, &sent, err);                     collective: what everybody sends
 *     while (tmb_flow_next(&flow, end)) {                        the same answer on every rank
 *         tmb_flow_there(&flow, &rows, err);                     collective
 *         ... rows->x = what the experts make of it ...
 *         tmb_flow_back(&flow, &rows, out, err);                 collective
 *     } */
#ifndef TMB_INFER_DISPATCH_H
#define TMB_INFER_DISPATCH_H

#include "moe/infer/decoder.h"

/* The router's answer for all tokens of a run. */
typedef struct tmb_routed {
    float *logits, *choice, *weight; /* [tokens, E], [tokens, E], [tokens, K] */
    uint32_t *chosen;                /* [tokens, K] ascending */
    size_t ties;                     /* tokens whose last choice was level with the next */
} tmb_routed;

/* --- router.c --- */
/* What goes to which expert: places begin[e] … begin[e+1]-1 are expert e's, tokens ascending. */
typedef struct tmb_sent {
    const tmb_routed *routing;
    size_t *begin;   /* [E + 1] */
    uint32_t *token; /* [places]; NULL: an expert has all tokens, or none (a shadow) */
    float *gate;     /* [places] by the router; NULL: as the router's logit says (a shadow) */
} tmb_sent;

/* r and sent come zeroed, and are given back with tmb_routed_free() also after a failure.  Without
 * tokens everything is empty. */
tmb_status tmb_route_all(tmb_run *run, tmb_routed *r, tmb_sent *sent) TMB_CHECKED;
void tmb_routed_free(tmb_routed *r, tmb_sent *sent);

/* --- dispatch.c --- */
/* Rows of this rank's experts in one step. */
typedef struct tmb_rows {
    size_t first, end;     /* slots */
    size_t *begin;         /* [end - first + 1] rows of a slot */
    float *x;              /* [rows, hidden] the inputs; then, in place, the outputs */
    const uint32_t *token; /* [rows] of this rank's batch; NULL: row i is token i, or other ranks'
                              rows are among them */
    const float *gate;     /* [rows]; NULL: of a shadow */
} tmb_rows;

/* One tmb_sent on its way. */
typedef struct tmb_flow {
    tmb_run *run;
    const tmb_sent *sent;
    uint32_t *counts;  /* [ranks][E + 1] rows by expert, then tokens, of every rank */
    int ranks;         /* of the communicator */
    size_t most;       /* tokens of the rank that has most */
    size_t first, end; /* slots of the present step */
    size_t low, high;  /* tokens of every rank in it */
    /* What this rank sends, by member, then slot: lane i is member i / (end - first). */
    size_t *lane;          /* [lanes + 1] first row */
    uint32_t *token;       /* [rows] */
    float *gate, *x;       /* [rows], [rows, hidden] */
    struct tmb_post *post; /* of the way to other ranks; NULL: all experts are here */
} tmb_flow;

/* flow zeroed; given back with tmb_flow_close() also after a failure. */
tmb_status tmb_flow_open(tmb_flow *flow, tmb_run *run, const tmb_sent *sent) TMB_CHECKED;
void tmb_flow_close(tmb_flow *flow);
/* Rows of this rank's slot, from all ranks. */
size_t tmb_flow_load(const tmb_flow *flow, size_t slot);
/* Go on to the next step that has rows, before slot `end`; false when there is none. */
bool tmb_flow_next(tmb_flow *flow, size_t end);
tmb_status tmb_flow_there(tmb_flow *flow, tmb_rows *rows) TMB_CHECKED;
/* out [tokens, hidden] += each token's rows, by their gates; out NULL: results are thrown away. */
tmb_status tmb_flow_back(tmb_flow *flow, tmb_rows *rows, float *out) TMB_CHECKED;

size_t tmb_slots(const tmb_decoder *d);
/* Expert of a slot here; n_experts or more: this member has none. */
static inline size_t tmb_slot_expert(const tmb_decoder *d, size_t slot)
{
    return slot * (size_t)d->ways + (size_t)d->member;
}
/* Host bytes that a flow's steps take at most. */
uint64_t tmb_flow_bytes(const tmb_decoder *d, uint64_t rows);

/* --- post.c: rows between ranks --- */
typedef struct tmb_post tmb_post;
tmb_status tmb_post_open(tmb_post **out, const tmb_decoder *d, tmb_err *err) TMB_CHECKED;
void tmb_post_close(tmb_post *post);
/* What the lanes hold goes to their members; rows = what came here.  Collective. */
tmb_status tmb_post_there(tmb_post *post, const tmb_flow *flow, tmb_rows *rows,
                          tmb_err *err) TMB_CHECKED;
/* flow->x = what the experts made of the rows that were sent.  Collective. */
tmb_status tmb_post_back(tmb_post *post, tmb_flow *flow, const tmb_rows *rows,
                         tmb_err *err) TMB_CHECKED;

#endif
