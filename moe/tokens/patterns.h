/* patterns.h - the pre-tokenizer patterns that are known, and their translation; internal to
 * moe/tokens.
 *
 * A pattern of a tokenizer.json is a regular expression over characters, and engines differ in what
 * \s, \p{L} or \p{Han} holds.  Here it is translated to one over kinds (ucd.h), a byte a character,
 * in which every class lists its bytes: PCRE2 decides about order and greed alone, never about
 * Unicode, and `[…&&[^\p{Han}]]`, which it would misread, is a class like any other. */
#ifndef TMB_TOKENS_PATTERNS_H
#define TMB_TOKENS_PATTERNS_H

#include "kernels/base/err.h"

/* The name of a known pattern ("llama-3"), NULL when it is not. */
const char *tmb_pattern_name(const char *regex);
/* The i-th known pattern and its regular expression; NULL after the last. */
const char *tmb_pattern_at(int i, const char **regex);

/* regex as a pattern over kinds, malloc'ed, the caller's. */
tmb_status tmb_pattern_translate(char **out, const char *regex, tmb_err *err) TMB_CHECKED;

#endif
