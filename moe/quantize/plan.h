/* plan.h - what a job will do, to the byte, before it does anything.
 *
 * Pure: checkpoint + recipe + layout -> every output tensor with its file and offset, every other
 * file with its size, the memory and disk the job needs, and every warning.  `tombac plan` prints
 * it, `quantize` executes it.
 *
 * Order.  Outputs follow the source: file by file, by offset; the parts of a unit lie side by side
 * and in one shard when they fit.  Constants of the layout (KV scales) come last.
 *
 * Memory.  Peak host bytes =
 *   metadata (checkpoint headers, inventory, assignment, plan, 40 bytes of error sums a unit)
 *   + the larger of  what is read ahead (three times the largest bundle, 64 to 512 MiB)
 *                      + the output's blocks (8 and 4 a thread, 64 at most, of 4 MiB or less)
 *                      + threads * (reader + a tile of the widest Linear + slab
 *                                   + with a GPU the codes of what it takes at once)
 *                      + the largest shard header, twice
 *                      + second moments that searches are weighted by, of the layers that the ring
 *                        reaches and one more, and what reading one takes
 *              and   the index or tombac.json, whichever is longer, twice, or the table of names
 *   + 24 MiB for the program itself, and with a GPU 1 GiB for its driver and runtime
 * printed as plan.peak_bytes.  With a max_ram less is read ahead and fewer blocks wait, down to
 * 17 MiB and 4 blocks, then the number of threads is lowered; when one thread does not fit,
 * TMB_EUSAGE tells the smallest limit that would do. */
#ifndef TMB_QUANTIZE_PLAN_H
#define TMB_QUANTIZE_PLAN_H

#include "moe/layout/layout.h"

#define TMB_SHARD_BYTES UINT64_C(5000000000) /* of a shard, header included, unless told */

typedef enum tmb_out_kind {
    TMB_OUT_COPY,   /* the source tensor, byte for byte */
    TMB_OUT_DECODE, /* a kept Linear of a quantized source, decoded to BF16 */
    TMB_OUT_PART,   /* a part of one unit, or slices of many */
    TMB_OUT_CONST,  /* one float32 */
} tmb_out_kind;

typedef struct tmb_out {
    const char *name;
    const uint64_t *shape; /* [rank] */
    uint64_t bytes;
    uint64_t begin;  /* in the data buffer of its file */
    uint32_t file;   /* index into plan->files */
    uint32_t source; /* COPY: tensor index; DECODE, PART: the first unit that writes it */
    float value;     /* CONST */
    uint8_t dtype, rank, kind;
    uint8_t joined; /* wants to lie in the shard of the out before it */
} tmb_out;

/* Where one part of a unit goes: element (r, c) of the part at element
 * base + r * row_stride + c * col_stride of the out. */
typedef struct tmb_slot {
    uint32_t out; /* index into plan->outs */
    tmb_part part;
    bool reciprocal;
    bool repeated; /* a number that units share: another one writes it */
    uint64_t base, row_stride, col_stride;
    /* When rows do not follow each other there, the bundle fills this range of the out in memory
     * first; 0 elements: rows are written where they belong. */
    uint64_t slab_begin, slab_elements;
} tmb_slot;

/* Units that are worked on together: they share a scale, or interleave in an output. */
typedef struct tmb_bundle {
    const uint32_t *units; /* ascending */
    uint32_t n_units;
    uint32_t out_first; /* lowest index of an out it writes: bundles are sorted by it */
} tmb_bundle;

typedef struct tmb_out_file {
    const char *name;      /* "model-00001-of-00002.safetensors" */
    uint64_t header_bytes; /* 8 + N */
    uint64_t data_bytes;
    uint32_t out_first, n_outs;
} tmb_out_file;

/* What is written besides the shards, in the order of publication. */
typedef enum tmb_other_kind {
    TMB_OTHER_CARRIED, /* a file of the source, byte for byte */
    TMB_OTHER_CONFIG,  /* config.json */
    TMB_OTHER_QUANT,   /* what the layout adds: hf_quant_config.json */
    TMB_OTHER_INDEX,   /* model.safetensors.index.json */
    TMB_OTHER_SUMMARY, /* tombac.json */
} tmb_other_kind;

typedef struct tmb_other_file {
    const char *name;
    uint64_t bytes; /* exact */
    tmb_other_kind kind;
} tmb_other_file;

/* One row of the table: what one rule does to one role. */
typedef struct tmb_plan_row {
    tmb_role role;
    const tmb_spec *spec;
    int32_t rule;
    uint64_t units, tensors_in, tensors_out, bytes_in, bytes_out, parameters;
    uint64_t unweighed; /* units whose search found no moments: plain mse */
} tmb_plan_row;

typedef struct tmb_plan_options {
    const char *layout;  /* NULL: the recipe's */
    uint64_t shard_size; /* 0: the recipe's, else 5 GB */
    uint64_t max_ram;    /* 0: no limit */
    int threads;         /* 0: one a processor */
    bool copy_code;      /* also carry *.py over */
    bool gpu;            /* encode on a GPU: pinned memory and device memory are counted */
    const char *stats;   /* statistics of calibrate: scales of activations, weights of searches;
                            NULL: activations are cast, searches plain */
    bool unmeasured;     /* nothing is refused for want of statistics: calibrate makes them */
} tmb_plan_options;

typedef struct tmb_plan {
    tmb_job_view job;
    const tmb_layout *layout;
    tmb_plan_options options; /* defaults filled in; threads as lowered by max_ram */
    tmb_out *outs;            /* file by file, by offset */
    uint32_t n_outs;
    tmb_out_file *files;
    uint32_t n_files;
    tmb_slot *slots; /* of unit u: n_slots[u] from slot_first[u]; 0 when it is copied */
    uint32_t *slot_first;
    uint8_t *n_slots;
    uint32_t *share; /* of unit u: the first unit it shares its global scale with, or u */
    tmb_bundle *bundles;
    uint32_t n_bundles;
    tmb_plan_row *rows;
    uint32_t n_rows;
    uint32_t *row_of;             /* of unit u: index into rows */
    struct tmb_weigh_plan *weigh; /* what searches are weighted by (weighing.h); NULL: nothing */
    tmb_other_file *others;
    uint32_t n_others;
    char *config_text; /* config.json to write */
    char *file_text;   /* the TMB_OTHER_QUANT file, or NULL */
    char *resolved;    /* the resolved recipe */
    char resolved_sha256[TMB_SHA256_HEX];
    uint64_t bytes_in, bytes_out; /* of all tensors */
    uint64_t disk_bytes;          /* every byte of every file that will be written */
    uint64_t metadata_bytes, thread_bytes, peak_bytes;
    uint64_t device_bytes; /* of the GPU's memory, for all threads; 0 without one */
    uint64_t stage_bytes;  /* the ring that the input is read ahead into */
    uint32_t block_bytes;  /* of the output on its way to the disk */
    uint32_t n_blocks;
    double bits_effective; /* 8 * output bytes of the Linears a glob may move / their parameters */
    const char **warnings;
    uint32_t n_warnings;
    tmb_arena arena;
} tmb_plan;

tmb_status tmb_plan_build(tmb_plan **out, const tmb_model *model, const tmb_recipe *recipe,
                          const tmb_assignment *assignment, const tmb_plan_options *options,
                          tmb_err *err) TMB_CHECKED;
void tmb_plan_close(tmb_plan *plan);

/* The text of model.safetensors.index.json; malloc'ed, the caller's.  Built on demand, because it
 * is as long as all names together. */
tmb_status tmb_plan_index_text(const tmb_plan *plan, char **text, size_t *n,
                               tmb_err *err) TMB_CHECKED;

#endif
