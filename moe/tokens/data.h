/* data.h - sequences of token ids from one or several sources.
 *
 * What --data and [calibration] name is opened, tokenized where it is text, checked against the
 * model, sampled, and held in memory as int32.  Everything that can be wrong with it is said here,
 * before a layer is read: one line with file, line or row, what, and remedy.
 *
 *   .jsonl        a line is a document: {"input_ids": [1, 2]} or {"text": "…"}; other keys are left
 *                 alone, input_ids comes first when both are there, empty lines do not count
 *   .txt          UTF-8; the whole file is one document
 *   .npy          integers [n] (one document) or [n, len] (n documents), C order
 *   .bin          bare little-endian uint16 or uint32 (ids_type); one document
 *   .safetensors  `input_ids`, integers [n] or [n, len]; `attention_mask` of the same shape, or
 *                 `lengths` [n], may say which ids of a row are padding: a run at either end
 *
 * A document becomes sequences as `fit` says.  A sequence never holds padding; tmb_data_block()
 * pads for those who want rectangles.
 *
 * Order.  samples == 0: everything, source after source, in the order of the files.  Else source s
 * has a quota of samples in proportion to its weight (largest remainder), its documents are
 * visited in random order until the quota is met, a document that has more sequences than are
 * still wanted gives a random choice of them, and the sources are interleaved so that every prefix
 * of the sequences is mixed by weight: whoever takes the first m has a sample of size m.  Random is
 * xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021) from
 * SplitMix64 of `seed` and the source's place.  The result depends on the bytes of the sources, the
 * tokenizer and the options, on nothing else: not on ranks, threads, paths or time.
 *
 * Memory: 4 bytes an id kept (samples x length), twice that while opening; 20 bytes a document of
 * the source at hand; and the longest text, which may have 256 MiB, with its ids. */
#ifndef TMB_TOKENS_DATA_H
#define TMB_TOKENS_DATA_H

#include "kernels/base/err.h"
#include "moe/io/files.h"
#include "moe/tokens/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum tmb_ids_type { TMB_IDS_U16, TMB_IDS_U32 } tmb_ids_type;

typedef struct tmb_data_options {
    const tmb_source *sources; /* [n_sources], paths relative to the working directory */
    size_t n_sources;
    const char *tokenizer; /* tokenizer.json or a folder with one, opened when a source holds text;
                              NULL: texts are refused */
    tmb_ids_type ids_type; /* of .bin */
    uint64_t vocab;        /* rows of the model's embedding; every id is below; 0: not checked */
    const char *model;     /* what messages call the owner of vocab; may be NULL */
    uint64_t samples;      /* sequences wanted; 0: all there are */
    uint32_t length;       /* tokens a sequence; 0 (with TMB_FIT_WHOLE alone): as they stand */
    tmb_fit fit;
    uint32_t shortest; /* sequences with fewer tokens are dropped and counted; 0 is 1 */
    uint64_t seed;
    bool no_special; /* texts without the template's BOS and EOS */
} tmb_data_options;

typedef struct tmb_sequence {
    const int32_t *ids; /* [n] */
    uint32_t n;         /* >= 1 */
    uint32_t source;    /* index into sources */
} tmb_sequence;

/* What became of a source. */
typedef struct tmb_data_source {
    const char *name, *path;
    double weight;
    uint64_t documents; /* in the file */
    uint64_t visited;   /* of them, read */
    uint64_t dropped;   /* pieces shorter than `shortest`, or left at the end of a pack */
    uint64_t quota;     /* sequences wanted; 0: all */
    uint64_t sequences; /* kept; under quota when the source has no more */
    uint64_t tokens;    /* in them */
} tmb_data_source;

typedef struct tmb_data {
    tmb_sequence *sequences; /* [n_sequences], in the order to be used */
    size_t n_sequences;
    uint32_t longest; /* tokens of the longest sequence */
    uint64_t tokens;  /* of all */
    tmb_data_source *sources;
    size_t n_sources;
    char sha256[TMB_SHA256_HEX];           /* of int32 little-endian n, source, ids[n] of each */
    char tokenizer_sha256[TMB_SHA256_HEX]; /* "" when no text was read */
    const char **notes;                    /* what a user should know: a quota not met */
    size_t n_notes;
    struct tmb_data_private *priv;
} tmb_data;

/* Refused, TMB_EDATA unless said: a source that is not there (TMB_ENOINPUT), of an unknown ending
 * (TMB_EUSAGE), or malformed; one without a single sequence (empty, or all too short); an id not
 * below vocab; a text without a tokenizer, with one that has ids not below vocab, or not UTF-8;
 * over 2^28 ids in all. */
tmb_status tmb_data_open(tmb_data **out, const tmb_data_options *options, tmb_err *err) TMB_CHECKED;
void tmb_data_close(tmb_data *data);

/* Sequences [first, first + count) as rectangles: ids [count, width] with pad behind the tokens,
 * mask [count, width] 1 for tokens, 0 for padding; either may be NULL.  width >= the longest. */
void tmb_data_block(const tmb_data *data, size_t first, size_t count, uint32_t width, int32_t pad,
                    int32_t *ids, uint8_t *mask);

#endif
