/* rope.h - the frequencies of rotary positions, by transformers' modeling_rope_utils.py.
 * For moe/infer/ alone. */
#ifndef TMB_INFER_ROPE_H
#define TMB_INFER_ROPE_H

#include "moe/infer/model_config.h"
#include "moe/infer/keys.h"

/* What is not told by the scaling's own keys. */
typedef struct tmb_rope_told {
    const char *theta; /* key of the base */
    double usual;      /* … without it */
    bool plain;        /* not scaled, whatever is told */
    bool even;         /* cos and sin have no factor */
} tmb_rope_told;

/* Fill r from the keys of the text config; `head` is the size of a head, of MLA of its rotating
 * part.  c->rules and c->max_positions are set. */
void tmb_rope_read(tmb_config *c, tmb_rope *r, tmb_keys *text, size_t head,
                   const tmb_rope_told *told);

#endif
