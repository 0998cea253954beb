/* file.h - statistics files: what is in them, written and read layer by layer.
 *
 * The schema is in doc/statistics.md.  A file is the statistics of a set of sequences under one
 * model: its content depends on nothing else.  How it came about (hosts, ranks, times, versions) is
 * in its manifest, which the digest leaves out. */
#ifndef TMB_CALIB_FILE_H
#define TMB_CALIB_FILE_H

#include "moe/calib/stats.h"
#include "moe/io/files.h"

enum { TMB_STATS_VERSION = 1, TMB_SEQUENCE_BYTES = 16 };

/* A source of data, with what of it was used. */
typedef struct tmb_stats_source {
    const char *name;
    uint64_t sequences, tokens;
} tmb_stats_source;

/* What the statistics are of.  Everything is borrowed when given, and owned by the file when read.
 */
typedef struct tmb_stats_identity {
    const char *model_type;          /* of config.json */
    const char *model_sha256;        /* what the caller takes for the checkpoint: hex */
    uint32_t layers;                 /* of the model */
    bool moments;                    /* hessian = block16 */
    uint64_t min_tokens;             /* of the recipe's coverage gate; 0: none */
    const tmb_stats_source *sources; /* in the order of tmb_router_stats.by_source; names differ */
    uint32_t n_sources;
    /* [n_sequences][TMB_SEQUENCE_BYTES] the first bytes of the SHA-256 of each sequence's ids
     * (int32, little-endian), in any order: which data this was, down to the sequence. */
    const uint8_t *sequences;
    uint64_t n_sequences;
} tmb_stats_identity;

/* One sequence's entry for tmb_stats_identity.sequences. */
tmb_status tmb_stats_sequence(const int32_t *ids, size_t n, uint8_t out[TMB_SEQUENCE_BYTES],
                              tmb_err *err) TMB_CHECKED;

/* ---- writing: create, put layers in any order, publish, close.
 *
 * Sources are written sorted by name and sequences by bytes, so their order does not show; layers'
 * by_source rows are those of the identity given to create. */
typedef struct tmb_stats_writer tmb_stats_writer;

tmb_status tmb_stats_create(tmb_stats_writer **out, const char *path,
                            const tmb_stats_identity *identity, tmb_err *err) TMB_CHECKED;
/* TMB_EDATA when a layer saw values that are not finite, naming the Linear: there is no scale for
 * those.  Sites that saw nothing are left out, but for experts'. */
tmb_status tmb_stats_put(tmb_stats_writer *writer, const tmb_stats_layer *layer,
                         tmb_err *err) TMB_CHECKED;
/* manifest: JSON text.  The file appears under its name, whole. */
tmb_status tmb_stats_publish(tmb_stats_writer *writer, const char *manifest,
                             tmb_err *err) TMB_CHECKED;
const char *tmb_stats_writer_digest(const tmb_stats_writer *writer); /* after publish */
void tmb_stats_writer_close(tmb_stats_writer *writer);               /* NULL is fine */

/* ---- reading */
typedef struct tmb_stats_file {
    const char *path;
    const char *digest;   /* of the content */
    const char *manifest; /* JSON text */
    tmb_stats_identity identity;
    int32_t *layers; /* [n_layers] indices, ascending; TMB_STATS_HEAD last */
    uint32_t n_layers;
    struct tmb_store *store;
    tmb_arena arena;
} tmb_stats_file;

/* TMB_ENOINPUT, TMB_EDATA. */
tmb_status tmb_stats_open(tmb_stats_file **out, const char *path, tmb_err *err) TMB_CHECKED;
/* The i-th layer, the caller's.  moments false: sums of squares alone, which is less to read; the
 * layer is then like one without second moments. */
tmb_status tmb_stats_read(tmb_stats_file *file, uint32_t i, bool moments, tmb_stats_layer **out,
                          tmb_err *err) TMB_CHECKED;
/* Second moments of one site of a layer that was read without: the average of x x' over the tokens
 * of each entry, drawn to that over all entries' (moe/calib/weigh.h, first step), native tokens, or
 * native and shadow on that rung.  out [n][blocks][136] f32, upper triangle by rows; full false: the
 * diagonal alone, [n][blocks][16], which needs no second moments in the file.  tokens [n]: what each
 * rests on, 0 when no token says anything, and zeros.  One entry at a time is in memory besides. */
tmb_status tmb_stats_moments(tmb_stats_file *file, const tmb_stats_layer *layer, uint32_t site,
                             bool full, float *out, double *tokens, tmb_err *err) TMB_CHECKED;
void tmb_stats_close(tmb_stats_file *file); /* NULL is fine */

/* ---- merging */

/* Write to `path` the statistics of the data of all files [n] together: byte for byte, but for the
 * manifest, what one run over all of it had written.  Shadow figures are added too.  TMB_EDATA when
 * they differ in model, layers, settings, or share a sequence; naming both files. */
tmb_status tmb_stats_merge(const char *path, tmb_stats_file *const *files, uint32_t n,
                           const char *manifest, tmb_err *err) TMB_CHECKED;

/* Write to `path` one file of the layers of all files [n], which are of the same data: how a run
 * that published each layer for itself comes to its end.  TMB_EDATA when identities differ, or a
 * layer comes twice. */
tmb_status tmb_stats_assemble(const char *path, tmb_stats_file *const *files, uint32_t n,
                              const char *manifest, tmb_err *err) TMB_CHECKED;

#endif
