/* dispatch.c - rows of tokens cut into steps, gathered, and their results added up. */
#include "config.h"
#include "moe/infer/dispatch.h"

#include "kernels/base/team.h"
#include "kernels/comm/comm.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_A_TURN = 16 }; /* that a thread copies or adds */

size_t tmb_slots(const tmb_decoder *d)
{
    size_t n = d->config.n_experts, ways = (size_t)d->ways;
    return n / ways + (n % ways != 0);
}

static size_t n_experts(const tmb_flow *f)
{
    return f->run->d->config.n_experts;
}

static size_t ways(const tmb_flow *f)
{
    return (size_t)f->run->d->ways;
}

/* ------------------------------------------------------------------ opening: who sends what */

/* The expert of member m in a slot has so many rows from rank r; 0 when there is no such expert. */
static size_t count(const tmb_flow *f, int r, size_t m, size_t slot)
{
    size_t e = slot * ways(f) + m, n = n_experts(f);
    return e < n ? f->counts[(size_t)r * (n + 1) + e] : 0;
}

tmb_status tmb_flow_open(tmb_flow *f, tmb_run *run, const tmb_sent *sent)
{
    const tmb_decoder *d = run->d;
    size_t n = d->config.n_experts;
    *f = (tmb_flow){.run = run, .sent = sent, .ranks = d->comm ? tmb_comm_size(d->comm) : 1};
    f->counts = calloc((size_t)f->ranks * (n + 1), sizeof *f->counts);
    uint32_t *mine = calloc(n + 1, sizeof *mine);
    tmb_status status = f->counts && mine ? TMB_OK
                                          : tmb_fail_memory(run->err, (uint64_t)f->ranks * n * 4,
                                                            "the rows of experts");
    for (size_t e = 0; !status && e < n; e++)
        mine[e] = (uint32_t)(sent->begin[e + 1] - sent->begin[e]);
    if (!status) mine[n] = (uint32_t)run->tokens;
    if (!status && d->comm) {
        status = tmb_comm_allgather(d->comm, f->counts, mine, (n + 1) * sizeof *mine, run->err);
        if (!status) status = tmb_post_open(&f->post, d, run->err);
    } else if (!status) {
        memcpy(f->counts, mine, (n + 1) * sizeof *mine);
    }
    free(mine);
    for (int r = 0; !status && r < f->ranks; r++) {
        size_t tokens = f->counts[(size_t)r * (n + 1) + n];
        f->most = tokens > f->most ? tokens : f->most;
    }
    return status;
}

static void drop_step(tmb_flow *f)
{
    free(f->lane);
    free(f->token);
    free(f->gate);
    free(f->x);
    f->lane = NULL;
    f->token = NULL;
    f->gate = f->x = NULL;
}

void tmb_flow_close(tmb_flow *f)
{
    drop_step(f);
    tmb_post_close(f->post);
    free(f->counts);
}

size_t tmb_flow_load(const tmb_flow *f, size_t slot)
{
    const tmb_decoder *d = f->run->d;
    size_t n = 0, m = (size_t)d->member;
    int rank = d->comm ? tmb_comm_rank(d->comm) : 0, first = rank - d->member;
    for (int r = first; r < first + d->ways; r++)
        n += count(f, r, m, slot);
    return n;
}

/* ------------------------------------------------------------------ steps */

/* The most rows that any rank sends or gets for slots first … end-1. */
static size_t busiest(const tmb_flow *f, size_t first, size_t end)
{
    size_t most = 0, group = ways(f);
    for (size_t base = 0; base < (size_t)f->ranks; base += group)
        for (size_t i = 0; i < group; i++) {
            size_t sends = 0, gets = 0;
            for (size_t s = first; s < end; s++)
                for (size_t j = 0; j < group; j++) {
                    sends += count(f, (int)(base + i), j, s);
                    gets += count(f, (int)(base + j), i, s);
                }
            most = sends > most ? sends : most;
            most = gets > most ? gets : most;
        }
    return most;
}

/* On every member the two slots' experts are of one width, so that one step can take both. */
static bool alike(const tmb_flow *f, size_t a, size_t b)
{
    const tmb_weight *w = f->run->layer->experts;
    for (size_t m = 0; m < ways(f); m++) {
        size_t x = a * ways(f) + m, y = b * ways(f) + m;
        if (y < n_experts(f) && w[x * TMB_MLP].out != w[y * TMB_MLP].out) return false;
    }
    return true;
}

/* Tokens of a rank that may go in one step when a slot alone has too many rows. */
static size_t tokens_a_part(const tmb_flow *f)
{
    return ways(f) < TMB_STEP_ROWS ? TMB_STEP_ROWS / ways(f) : 1;
}

bool tmb_flow_next(tmb_flow *f, size_t end)
{
    if (f->end > f->first && f->high < f->most) { /* more tokens of the slot */
        f->low = f->high;
        f->high += tokens_a_part(f);
        return true;
    }
    f->first = f->end;
    while (f->first < end && !busiest(f, f->first, f->first + 1))
        f->first++;
    f->end = f->first;
    if (f->first >= end) return false;
    f->low = 0;
    f->high = f->most;
    f->end++;
    if (busiest(f, f->first, f->end) > TMB_STEP_ROWS)
        f->high = tokens_a_part(f);
    else
        while (f->end < end && alike(f, f->first, f->end) &&
               busiest(f, f->first, f->end + 1) <= TMB_STEP_ROWS)
            f->end++;
    return true;
}

/* ------------------------------------------------------------------ there */

static size_t lane_expert(const tmb_flow *f, size_t lane)
{
    size_t slots = f->end - f->first;
    return (f->first + lane % slots) * ways(f) + lane / slots;
}

/* The first of places first … end-1, tokens ascending, whose token is not below t. */
static size_t lower(const uint32_t *token, size_t first, size_t end, size_t t)
{
    while (first < end) {
        size_t mid = first + (end - first) / 2;
        if (token[mid] < t)
            first = mid + 1;
        else
            end = mid;
    }
    return first;
}

/* Places of an expert whose tokens are in the step. */
static void in_step(const tmb_flow *f, size_t e, size_t *first, size_t *end)
{
    const tmb_sent *s = f->sent;
    *first = *end = 0;
    if (e >= n_experts(f)) return;
    size_t begin = s->begin[e], n = s->begin[e + 1] - begin;
    if (s->token) {
        *first = lower(s->token, begin, begin + n, f->low);
        *end = lower(s->token, *first, begin + n, f->high);
    } else {
        *first = begin + (f->low < n ? f->low : n);
        *end = begin + (f->high < n ? f->high : n);
    }
}

/* Of which token each row is, and the router's weight. */
static void list_rows(tmb_flow *f, size_t lanes)
{
    const tmb_sent *s = f->sent;
    size_t at = 0, n = n_experts(f);
    for (size_t l = 0; l < lanes; l++) {
        size_t e = lane_expert(f, l), first, end;
        in_step(f, e, &first, &end);
        for (size_t p = first; p < end; p++, at++) {
            f->token[at] = s->token ? s->token[p] : (uint32_t)(p - s->begin[e]);
            if (s->gate)
                f->gate[at] = s->gate[p];
            else
                f->run->d->nn->sigmoid(&f->gate[at], s->routing->logits + f->token[at] * n + e, 1);
        }
    }
}

static bool scales_inputs(const tmb_flow *f)
{
    return f->run->d->config.rules->routing == TMB_ROUTING_INPUT_SIGMOID;
}

static void gather_row(void *ctx, size_t i)
{
    const tmb_flow *f = ctx;
    size_t hidden = f->run->d->config.expert_in;
    const float *from = f->run->expert_x + f->token[i] * hidden;
    if (scales_inputs(f))
        f->run->d->nn->scale(f->x + i * hidden, from, f->gate[i], hidden);
    else
        memcpy(f->x + i * hidden, from, hidden * sizeof *from);
}

tmb_status tmb_flow_there(tmb_flow *f, tmb_rows *rows)
{
    tmb_decoder *d = f->run->d;
    size_t lanes = (f->end - f->first) * ways(f), n = 0, first, end;
    drop_step(f);
    f->lane = malloc((lanes + 1) * sizeof *f->lane);
    if (!f->lane) return tmb_fail_memory(f->run->err, lanes * sizeof *f->lane, "a step of experts");
    for (size_t l = 0; l < lanes; l++) {
        in_step(f, lane_expert(f, l), &first, &end);
        f->lane[l] = n;
        n += end - first;
    }
    f->lane[lanes] = n;
    f->token = malloc((n + 1) * sizeof *f->token);
    f->gate = tmb_floats(n, 1, f->run->err);
    f->x = tmb_floats(n, d->config.expert_in, f->run->err);
    if (!f->token || !f->gate || !f->x)
        return tmb_fail_memory(f->run->err, n * d->config.expert_in * 4, "rows of experts");
    list_rows(f, lanes);
    tmb_team_each(d->threads, n, ROWS_A_TURN, gather_row, f);
    *rows = (tmb_rows){.first = f->first,
                       .end = f->end,
                       .begin = f->lane,
                       .x = f->x,
                       .token = f->sent->token || f->low ? f->token : NULL,
                       .gate = f->sent->gate ? f->gate : NULL};
    return f->post ? tmb_post_there(f->post, f, rows, f->run->err) : TMB_OK;
}

/* ------------------------------------------------------------------ back */

typedef struct adding {
    const tmb_flow *flow;
    float *out;
} adding;

/* The rows of one token in this step: its experts are ascending, and so are the steps. */
static void add_rows(void *ctx, size_t i)
{
    const adding *a = ctx;
    const tmb_flow *f = a->flow;
    const tmb_config *c = &f->run->d->config;
    size_t token = f->low + i, slots = f->end - f->first;
    const uint32_t *chosen = f->sent->routing->chosen + token * c->top_k;
    for (size_t j = 0; j < c->top_k; j++) {
        size_t slot = chosen[j] / ways(f);
        if (slot < f->first || slot >= f->end) continue;
        size_t lane = chosen[j] % ways(f) * slots + slot - f->first;
        size_t row = lower(f->token, f->lane[lane], f->lane[lane + 1], token);
        f->run->d->nn->add_scaled(a->out + token * c->expert_in, f->x + row * c->expert_in,
                                  scales_inputs(f) ? 1.0f : f->gate[row], c->expert_in);
    }
}

tmb_status tmb_flow_back(tmb_flow *f, tmb_rows *rows, float *out)
{
    tmb_decoder *d = f->run->d;
    size_t high = f->high < f->run->tokens ? f->high : f->run->tokens;
    adding a = {f, out};
    if (!out) return TMB_OK;
    if (f->post) TRY(tmb_post_back(f->post, f, rows, f->run->err));
    if (high > f->low) tmb_team_each(d->threads, high - f->low, ROWS_A_TURN, add_rows, &a);
    return TMB_OK;
}

/* ------------------------------------------------------------------ memory */

uint64_t tmb_flow_bytes(const tmb_decoder *d, uint64_t rows)
{
    uint64_t width = d->config.expert_in + 2, copies = d->ways > 1 ? 3 : 1;
    return rows * copies * width * sizeof(float);
}
