/* rope.h - the frequencies of rotary positions, by transformers' modeling_rope_utils.py.
 * For moe/infer/ alone. */
#ifndef TMB_INFER_ROPE_H
#define TMB_INFER_ROPE_H

#include "moe/infer/model_config.h"
#include "moe/infer/keys.h"

/* Fill c->rope from the keys of the text config; `head` is the size of a head, of MLA of its
 * rotating part.  c->rules and c->max_positions are set. */
void tmb_rope_read(tmb_config *c, tmb_keys *text, size_t head);

#endif
