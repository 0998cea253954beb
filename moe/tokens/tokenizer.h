/* tokenizer.h - text to token ids and back, by a model's own tokenizer.json.
 *
 * Equal, id for id, to Hugging Face `tokenizers` 0.23 for what is supported: byte-level BPE with
 * the known pre-tokenizer patterns, SentencePiece-style BPE with byte fallback, added tokens,
 * templates.  Whatever is not known (a pattern, a component, a model) is refused by name when the
 * file is read, never guessed.  doc/tokens.md lists what is known. */
#ifndef TMB_TOKENS_TOKENIZER_H
#define TMB_TOKENS_TOKENIZER_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Read only once it is open: one serves any number of threads. */
typedef struct tmb_tokenizer tmb_tokenizer;

/* path: a tokenizer.json, or a folder (a checkpoint) that holds one.  Costs about 12 bytes of
 * memory a byte of the file at most, for the time of the reading; 2 to 4 stay. */
tmb_status tmb_tokenizer_load(tmb_tokenizer **out, const char *path, tmb_err *err) TMB_CHECKED;
/* From text [n], malloc'ed, which becomes the tokenizer's, also on failure; name is what messages
 * call it. */
tmb_status tmb_tokenizer_parse(tmb_tokenizer **out, char *text, size_t n, const char *name,
                               tmb_err *err) TMB_CHECKED;
void tmb_tokenizer_close(tmb_tokenizer *tokenizer);

/* The highest id + 1, added tokens included. */
uint32_t tmb_tokenizer_ids(const tmb_tokenizer *tokenizer);
/* The same without the tokens that were only added. */
uint32_t tmb_tokenizer_model_ids(const tmb_tokenizer *tokenizer);
/* What was recognised, for people: "byte-level BPE, pattern llama-3". */
const char *tmb_tokenizer_about(const tmb_tokenizer *tokenizer);
/* SHA-256 of the file, hex. */
const char *tmb_tokenizer_sha256(const tmb_tokenizer *tokenizer);

/* A list of ids that grows.  Zero-initialised is empty and ready; free(ids) gives it back. */
typedef struct tmb_ids {
    int32_t *ids; /* [n] */
    size_t n, room;
} tmb_ids;

/* What one thread needs to encode: scratch space and a cache of words. */
typedef struct tmb_encoder tmb_encoder;
tmb_status tmb_encoder_open(tmb_encoder **out, const tmb_tokenizer *tokenizer,
                            tmb_err *err) TMB_CHECKED;
void tmb_encoder_close(tmb_encoder *encoder);

/* Append the ids of text [n] to *out.  special: with what the file's template puts around a single
 * text (BOS, EOS), as HF's encode(add_special_tokens=True).  Special tokens that stand in the text
 * are taken as tokens either way, as HF does.  TMB_EDATA naming the byte when the text is not
 * UTF-8; `name` is what messages call it.  Time grows with n log n at worst. */
tmb_status tmb_encode(tmb_encoder *encoder, const char *text, size_t n, bool special,
                      const char *name, tmb_ids *out, tmb_err *err) TMB_CHECKED;

/* The text of ids [n], malloc'ed, the caller's, NUL-terminated past *bytes (it may hold NULs).
 * skip_special leaves special tokens out.  What is no whole character becomes U+FFFD.  TMB_EDATA
 * for an id that the tokenizer does not have. */
tmb_status tmb_decode(const tmb_tokenizer *tokenizer, const int32_t *ids, size_t n,
                      bool skip_special, char **text, size_t *bytes, tmb_err *err) TMB_CHECKED;

#endif
