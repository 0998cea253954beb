/* model.h - the inventory of a checkpoint: every tensor belongs to exactly one unit.
 *
 * A unit is what one recipe rule decides about: a Linear with all its stored parts (weight and
 * the scales of an already quantized source), or a single other tensor (norm, bias, table).
 * A stacked expert tensor is expanded: one unit for each expert and projection, which are views
 * of the same bytes, so nothing above this header knows that stacked experts exist but for
 * tmb_unit.stacked. */
#ifndef TMB_MODEL_MODEL_H
#define TMB_MODEL_MODEL_H

#include "kernels/base/err.h"
#include "kernels/base/mem.h"
#include "moe/format/format.h"
#include "moe/io/checkpoint.h"
#include "moe/model/arch.h"

#include <stdbool.h>
#include <stdint.h>

#define TMB_NO_TENSOR UINT32_MAX
#define TMB_NONE UINT32_MAX

/* How the parts of a Linear are spelled in this checkpoint. */
typedef enum tmb_spelling {
    TMB_SPELL_PLAIN,    /* weight in F32, F16, BF16 (or another plain type) */
    TMB_SPELL_NATIVE,   /* weight + weight_scale_inv; weight + scale (E8M0); _blocks + _scales */
    TMB_SPELL_MODELOPT, /* weight + weight_scale [+ weight_scale_2] [+ input_scale] */
    TMB_SPELL_CT,       /* weight_packed/weight + weight_scale [+ weight_global_scale] … */
    TMB_SPELL_BROKEN,   /* parts that do not fit together; see tmb_unit.broken */
} tmb_spelling;

/* Where the values of a Linear lie.  Tensor indices are into tmb_checkpoint.tensors. */
typedef struct tmb_stored {
    tmb_spelling spelling;
    const tmb_format *format; /* NULL: plain */
    uint32_t part[TMB_PARTS]; /* TMB_PART_CODES is the weight itself; TMB_NO_TENSOR when absent */
    uint32_t group;           /* columns a block scale covers, 0: as the format says (int4: 32, 128) */
    /* a view into a stacked tensor; n_experts 0: the whole tensor is this Linear */
    uint32_t n_experts, index;
    uint32_t first, step; /* rows (of [out, in]) taken: first, first+step, … `out` of them */
    bool transposed;      /* stored [.., in, out] */
} tmb_stored;

typedef struct tmb_unit {
    const char *name; /* module name, hub spelling: "model.layers.0.mlp.experts.3.up_proj"; of
                         a stacked expert the name it gets when split; for a tensor that is no
                         Linear's weight the tensor's name without ".weight" */
    const char *disk; /* module name on disk; differs from name only for stacked experts */
    tmb_role role;
    tmb_proj proj;
    int32_t layer;  /* -1 when outside the decoder layers */
    int32_t expert; /* -1 when no routed expert */
    bool linear;    /* a 2-D weight (or a slice of a stack) that formats can take; false also for
                       the routers, heads and tables of an MTP layer, which nothing may move */
    bool stacked;
    bool keep;              /* only a rule naming its role moves it */
    const char *keep_why;   /* why, when keep */
    uint64_t out, in;       /* linear: the weight is [out, in] */
    tmb_stored stored;      /* linear: its parts; else part[TMB_PART_CODES] is the one tensor */
    uint32_t fuse;    /* index into tmb_model.fuses, TMB_NONE when alone */
    uint32_t experts; /* index into tmb_model.experts, TMB_NONE */
    const char *broken; /* why the stored parts cannot be read; NULL when fine */
} tmb_unit;

/* Linears that engines fuse: same format, joint amax. */
typedef struct tmb_fuse {
    const uint32_t *units; /* ascending */
    uint32_t n_units;
    const char *alias[3]; /* full names engines use for the fused layer; NULL when fewer */
} tmb_fuse;

/* The routed experts of one layer. */
typedef struct tmb_experts {
    const char *name;     /* "model.layers.0.mlp.experts" */
    const uint32_t *units; /* all Linears, by expert then projection */
    uint32_t n_units;
    uint32_t n_experts;
    int32_t layer;
} tmb_experts;

typedef struct tmb_model {
    const tmb_checkpoint *ckpt;
    const tmb_arch *arch;    /* never NULL: the guessing table for unknown types */
    const char *model_type;  /* from config.json, "" without one */
    bool guessed;            /* no architecture of ours answers to model_type */
    const char *prefix;      /* of the text model: "model.language_model." */
    tmb_unit *units;
    uint32_t n_units;
    tmb_fuse *fuses;
    uint32_t n_fuses;
    tmb_experts *experts;
    uint32_t n_experts_groups;
    int n_layers;        /* num_hidden_layers of the text config, else counted; 0 unknown */
    int n_experts;       /* routed experts a layer (config, else counted), 0 unknown */
    int top_k;           /* 0 unknown */
    uint64_t active_parameters, parameters; /* of the text model, by top-k; estimates for reports */
    const char **notes; /* sentences that plan prints: guesses, kept towers, unknown tensors */
    uint32_t n_notes;
    struct tmb_words *names; /* of units, for tmb_model_find */
    tmb_arena arena;
} tmb_model;

/* Build the inventory.  Damaged quantized sources do not fail here (verify wants to look at
 * them): their units carry `broken`; plan refuses to read such a unit. */
tmb_status tmb_model_open(tmb_model **out, const tmb_checkpoint *ckpt, tmb_err *err) TMB_CHECKED;
void tmb_model_close(tmb_model *model);

/* TMB_EDATA naming the first expert that is missing, lacks a projection that others have, is empty, or
 * does not fit its own parts; of architectures that are known also one of another shape, fewer experts
 * than config.json says, no router; and blocks of FP8 that are not 128 x 128.  A source must pass before it is quantized. */
tmb_status tmb_model_complete(const tmb_model *model, tmb_err *err) TMB_CHECKED;

/* NULL when there is none; O(1). */
const tmb_unit *tmb_model_find(const tmb_model *model, const char *name);

#endif
