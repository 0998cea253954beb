/* plan.h - what a job will do, to the byte, before it does anything.
 *
 * Pure: checkpoint + recipe + layout -> every output tensor with its file and offset, the memory
 * and disk the job needs, and every warning.  `tombac plan` prints it, `quantize` executes it.
 *
 * Memory.  Peak host bytes = metadata (what the checkpoint, inventory and plan hold)
 *   + threads * (reader + tile + part buffers of the largest bundle)  + a fixed 24 MiB of program,
 * printed as plan.peak_bytes; with a max_ram the number of threads is lowered to fit, and
 * TMB_EUSAGE tells the smallest that would do when one thread does not. */
#ifndef TMB_QUANTIZE_PLAN_H
#define TMB_QUANTIZE_PLAN_H

#include "moe/layout/layout.h"

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
    uint64_t begin; /* in the data buffer of its file */
    uint32_t file;  /* index into plan->files */
    uint32_t source; /* COPY: tensor index; DECODE: unit index */
    float value;     /* CONST */
    uint8_t dtype, rank, kind;
} tmb_out;

/* Where one part of a unit goes. */
typedef struct tmb_slot {
    uint32_t out; /* index into plan->outs */
    tmb_part part;
    bool reciprocal;
    uint64_t base, row_stride, col_stride; /* elements of the out's dtype */
} tmb_slot;

/* Units that are quantized together: they share a scale, or an output slab. */
typedef struct tmb_bundle {
    const uint32_t *units;
    uint32_t n_units;
    uint32_t out_first; /* lowest index of an out it writes: bundles are sorted by it */
    uint64_t bytes;     /* host bytes one thread needs for it */
} tmb_bundle;

typedef struct tmb_out_file {
    const char *name;      /* "model-00001-of-00002.safetensors" */
    uint64_t header_bytes; /* 8 + N */
    uint64_t data_bytes;
    uint32_t out_first, n_outs;
} tmb_out_file;

/* One row of the table: what one rule does to one role. */
typedef struct tmb_plan_row {
    tmb_role role;
    const tmb_spec *spec;
    int32_t rule;
    uint64_t units, tensors_in, tensors_out, bytes_in, bytes_out, parameters;
} tmb_plan_row;

typedef struct tmb_plan_options {
    const char *layout;  /* NULL: the recipe's */
    uint64_t shard_size; /* 0: the recipe's, else 5 GB */
    uint64_t max_ram;    /* 0: no limit */
    int threads;         /* 0: one a processor */
    bool copy_code;      /* also carry *.py over */
} tmb_plan_options;

typedef struct tmb_plan {
    tmb_job_view job;
    const tmb_layout *layout;
    tmb_plan_options options; /* defaults filled in; threads as lowered by max_ram */
    tmb_out *outs; /* file by file, by offset */
    uint32_t n_outs;
    tmb_out_file *files;
    uint32_t n_files;
    tmb_slot *slots; /* of unit u: slots[slot_first[u]] .. slots[slot_first[u + 1]] */
    uint32_t *slot_first;
    tmb_bundle *bundles;
    uint32_t n_bundles;
    tmb_plan_row *rows;
    uint32_t n_rows;
    const char **copied; /* other files carried over */
    uint32_t n_copied;
    char *config_text;  /* config.json to write */
    const char *file_name; /* hf_quant_config.json, or NULL */
    char *file_text;
    char *index_text; /* model.safetensors.index.json, NULL for a single file */
    char *resolved;   /* the resolved recipe */
    char resolved_sha256[TMB_SHA256_HEX];
    uint64_t bytes_in, bytes_out; /* of all tensors */
    uint64_t disk_bytes;          /* every byte of every file that will be written */
    uint64_t peak_bytes;
    double bits_effective; /* 8 * bytes of quantizable Linears / their parameters */
    const char **warnings;
    uint32_t n_warnings;
    tmb_arena arena;
} tmb_plan;

tmb_status tmb_plan_build(tmb_plan **out, const tmb_model *model, const tmb_recipe *recipe,
                          const tmb_assignment *assignment, const tmb_plan_options *options,
                          tmb_err *err) TMB_CHECKED;
void tmb_plan_close(tmb_plan *plan);

#endif
