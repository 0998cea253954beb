/* post.c - rows of experts between the ranks of a group.
 *
 * A rank sends its lanes as they lie: by member, then slot, then token.  What comes is by sender,
 * then slot; it is put in order by slot, so that an expert has its rows of all senders together,
 * and goes back the way it came. */
#include "config.h"
#include "moe/infer/dispatch.h"

#include "kernels/comm/comm.h"

#include <stdlib.h>
#include <string.h>

struct tmb_post {
    tmb_comm *comm;
    size_t size, first, ways; /* ranks; the group: ranks first … first+ways-1 */
    size_t hidden;
    size_t *sent, *got;       /* [size] bytes to and from each rank */
    uint32_t *asked, *counts; /* [ways][slots] rows that lanes send, and that come from a member */
    size_t *begin;            /* [slots + 1] rows of a slot here */
    float *came, *gates;      /* [rows, hidden] and [rows], by sender */
    float *x, *gate;          /* the same, by slot */
};

tmb_status tmb_post_open(tmb_post **out, const tmb_decoder *d, tmb_err *err)
{
    tmb_post *p = *out = calloc(1, sizeof *p);
    if (!p) return tmb_fail_memory(err, sizeof *p, "rows between ranks");
    p->comm = d->comm;
    p->size = (size_t)tmb_comm_size(d->comm);
    p->ways = (size_t)d->ways;
    p->first = (size_t)(tmb_comm_rank(d->comm) - d->member);
    p->hidden = d->config.expert_in;
    p->sent = calloc(p->size, sizeof *p->sent);
    p->got = calloc(p->size, sizeof *p->got);
    if (p->sent && p->got) return TMB_OK;
    return tmb_fail_memory(err, 2 * p->size * sizeof *p->sent, "rows between ranks");
}

static void drop(tmb_post *p)
{
    free(p->asked);
    free(p->counts);
    free(p->begin);
    free(p->came);
    free(p->gates);
    free(p->x);
    free(p->gate);
    p->asked = p->counts = NULL;
    p->begin = NULL;
    p->came = p->gates = p->x = p->gate = NULL;
}

void tmb_post_close(tmb_post *p)
{
    if (!p) return;
    drop(p);
    free(p->sent);
    free(p->got);
    free(p);
}

/* How many rows come from each member for each slot. */
static tmb_status tell_counts(tmb_post *p, const tmb_flow *f, tmb_err *err)
{
    size_t slots = f->end - f->first;
    p->asked = malloc(p->ways * slots * sizeof *p->asked);
    p->counts = malloc(p->ways * slots * sizeof *p->counts);
    p->begin = calloc(slots + 1, sizeof *p->begin);
    if (!p->asked || !p->counts || !p->begin)
        return tmb_fail_memory(err, p->ways * slots * sizeof *p->counts, "rows between ranks");
    for (size_t l = 0; l < p->ways * slots; l++)
        p->asked[l] = (uint32_t)(f->lane[l + 1] - f->lane[l]);
    for (size_t m = 0; m < p->ways; m++)
        p->sent[p->first + m] = p->got[p->first + m] = slots * sizeof *p->asked;
    TRY(tmb_comm_alltoallv(p->comm, p->counts, p->got, p->asked, p->sent, err));
    for (size_t m = 0; m < p->ways; m++)
        for (size_t s = 0; s < slots; s++)
            p->begin[s + 1] += p->counts[m * slots + s];
    for (size_t s = 0; s < slots; s++)
        p->begin[s + 1] += p->begin[s];
    return TMB_OK;
}

/* Bytes of rows of so many floats: of the lanes, and of what comes. */
static void measure(tmb_post *p, const tmb_flow *f, size_t width)
{
    size_t slots = f->end - f->first;
    for (size_t m = 0; m < p->ways; m++) {
        size_t rows = 0;
        for (size_t s = 0; s < slots; s++)
            rows += p->counts[m * slots + s];
        p->got[p->first + m] = rows * width * sizeof(float);
        p->sent[p->first + m] =
            (f->lane[(m + 1) * slots] - f->lane[m * slots]) * width * sizeof(float);
    }
}

/* Copy rows of `width` floats between the order of senders and that of slots. */
static void sort_rows(const tmb_post *p, size_t slots, float *by_sender, float *by_slot,
                      size_t width, bool to_slots)
{
    float *from = by_sender;
    for (size_t m = 0; m < p->ways; m++)
        for (size_t s = 0; s < slots; s++) {
            size_t before = 0, n = p->counts[m * slots + s] * width;
            for (size_t i = 0; i < m; i++)
                before += p->counts[i * slots + s];
            float *place = by_slot + (p->begin[s] + before) * width;
            if (to_slots)
                memcpy(place, from, n * sizeof *from);
            else
                memcpy(from, place, n * sizeof *from);
            from += n;
        }
}

tmb_status tmb_post_there(tmb_post *p, const tmb_flow *f, tmb_rows *rows, tmb_err *err)
{
    size_t slots = f->end - f->first;
    drop(p);
    TRY(tell_counts(p, f, err));
    size_t n = p->begin[slots];
    p->came = tmb_floats(n, p->hidden, err);
    p->x = tmb_floats(n, p->hidden, err);
    p->gates = tmb_floats(n, 1, err);
    p->gate = tmb_floats(n, 1, err);
    if (!p->came || !p->x || !p->gates || !p->gate) return TMB_ESYSTEM;
    measure(p, f, p->hidden);
    TRY(tmb_comm_alltoallv(p->comm, p->came, p->got, f->x, p->sent, err));
    sort_rows(p, slots, p->came, p->x, p->hidden, true);
    rows->begin = p->begin;
    rows->x = p->x;
    rows->token = NULL;
    if (!rows->gate) return TMB_OK; /* of a shadow */
    measure(p, f, 1);
    TRY(tmb_comm_alltoallv(p->comm, p->gates, p->got, f->gate, p->sent, err));
    sort_rows(p, slots, p->gates, p->gate, 1, true);
    rows->gate = p->gate;
    return TMB_OK;
}

tmb_status tmb_post_back(tmb_post *p, tmb_flow *f, const tmb_rows *rows, tmb_err *err)
{
    size_t slots = f->end - f->first;
    measure(p, f, p->hidden);
    sort_rows(p, slots, p->came, rows->x, p->hidden, false);
    return tmb_comm_alltoallv(p->comm, f->x, p->sent, p->came, p->got, err);
}
