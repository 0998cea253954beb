/* attention.h - what the kinds of softmax attention share: gqa.c, mla.c and their kin.
 *
 * Keys and values (of MLA the latent) are made for the whole batch, so that an observer sees them
 * at once; queries, and what MLA expands the latent to, for some sequences at a time. */
#ifndef TMB_INFER_ATTENTION_H
#define TMB_INFER_ATTENTION_H

#include "moe/infer/decoder.h"

/* Heads of rows that are normed and turned in place. */
typedef struct tmb_turning {
    const tmb_run *run;
    float *x; /* [tokens, heads, dim], tokens `stride` and heads `step` apart; row i is token first
                 + i */
    size_t first, heads, dim, stride, step;
    size_t at; /* where in a head the rotating part begins */
    const tmb_vector *norm;
    bool rope, temper;
    bool back, bare;        /* turn back; norm heads without a weight first */
    bool halves, paired;    /* turn so, whatever the model's heads do */
    const size_t *position; /* [tokens of the batch] */
} tmb_turning;
void tmb_turn_rows(const tmb_turning *t, size_t rows);

/* What attention holds during a run. */
typedef struct tmb_heads tmb_heads;
struct tmb_heads {
    tmb_run *run;
    size_t *position; /* [tokens] */
    float *k, *v;     /* [tokens, k_width], [tokens, v_width] */
    size_t k_width, v_width;
    float *latent;             /* MLA: what kv_b reads [tokens, kv_rank] */
    float *q_latent;           /* MLA: what q_b reads [tokens, q_rank] */
    const float *q_in, *kv_in; /* rows that enter q (and of MLA kv_b) */
    float *owned[3];           /* of hooks */
    float *q, *expanded;       /* of a part: queries, and what kv_b gives */
    float *out;                /* [tokens, heads, v_dim] */
    /* Which keys a query sees beside causality, bit by bit: [tokens, masks, mask_words]; NULL: all.
     * masks: 1, or one for each key head. */
    uint64_t *seen;
    size_t masks, mask_words;
    size_t *key_begin; /* [sequences]: tmb_attend.key_begin, NULL: not asked */
};

/* A kind: keys and values of the batch; then the attention of rows row … row+n-1, whole sequences
 * that begin at a->begin, with a ready but for q, k and v. */
typedef struct tmb_attention_kind {
    tmb_status (*keys)(tmb_heads *s);
    tmb_status (*attend)(tmb_heads *s, size_t row, size_t n, tmb_attend *a);
    tmb_status (*leave)(tmb_heads *s, float *out); /* NULL: by o_proj alone */
    size_t expanded;                               /* floats of a row of tmb_heads.expanded */
} tmb_attention_kind;

tmb_status tmb_attention_run(tmb_run *run, float *out, const tmb_attention_kind *kind) TMB_CHECKED;
tmb_status tmb_attention_show_kv(tmb_heads *s) TMB_CHECKED;
/* Whether the layer's queries and keys turn. */
bool tmb_attention_turns(const tmb_run *run);
/* What a run holds, in floats of a token: for the batch beside positions and output, for a part of
 * it, and what hooks copy; `making`: bytes that making keys takes and gives back; `keys` of the
 * longest sequence. */
typedef struct tmb_attention_room {
    uint64_t kept, part, hooked, making, keys;
} tmb_attention_room;
uint64_t tmb_attention_bytes(const tmb_decoder *d, uint64_t tokens, uint64_t longest,
                             const tmb_attention_room *room);
/* Biases that config.json tells of are there. */
struct tmb_binder;
tmb_status tmb_attention_biases(struct tmb_binder *b) TMB_CHECKED;

#endif
