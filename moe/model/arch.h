/* arch.h - what an architecture is: data, no code.
 *
 * One file each under moe/model/arch/, one word in moe/local.mk.  An architecture answers to
 * values of config.json's model_type and says, by patterns under a prefix, what role each tensor
 * plays, which Linears serving engines fuse, how stacked (3-D) experts lie, and what its engines
 * want spelled in a special way.
 *
 * Pattern language, matched against a module name without the prefix and without ".weight" (a
 * name that does not begin with the prefix is matched whole):
 *   {L} a layer number   {E} an expert number   {N} any number   * any run of characters in one
 *   dotted part   a|b|c alternatives within one part   ** last: this module and all below it;
 *   ** first: any parts before
 * The first row that matches decides.  Not in any table, because it holds for every
 * architecture: layers past num_hidden_layers and parts called mtp or mtp_… are TMB_ROLE_MTP
 * (model.c); which projection a Linear is, is told by its last part (role.c). */
#ifndef TMB_MODEL_ARCH_H
#define TMB_MODEL_ARCH_H

#include "moe/model/arch_forward.h"
#include "moe/model/role.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    TMB_ARCH_KEEP = 1,    /* stays as it is unless a rule names its role (small, sensitive) */
    TMB_ARCH_STACKED = 2, /* 3-D tensors under it hold all experts of the layer */
    TMB_ARCH_TABLE = 4,   /* looked up, not multiplied: no Linear though it is 2-D */
};

typedef struct tmb_arch_row {
    const char *pattern; /* NULL ends the table */
    tmb_role role;
    unsigned flags;
} tmb_arch_row;

/* Linears of one parent that engines run as one GEMM: same format, shared global and input
 * scales.  Leaves not present in a layer are left out. */
typedef struct tmb_arch_fuse {
    const char *leaves[6];  /* "q_proj", "k_proj", "v_proj": last parts under one parent */
    const char *aliases[3]; /* names of the fused layer in engines: "qkv_proj"; may be empty */
} tmb_arch_fuse;

/* How a stacked tensor lies.  "io": [E, in, out] (x·W), "oi": [E, out, in]. Decided by shape against
 * the config's hidden and expert width where that is possible, else as told here. */
typedef enum tmb_stack {
    TMB_STACK_NONE,
    TMB_STACK_OI,             /* [E, 2I, H], [E, H, I]; rows 0..I-1 gate, I..2I-1 up */
    TMB_STACK_IO,             /* [E, H, 2I], [E, I, H]; columns 0..I-1 gate */
    TMB_STACK_IO_INTERLEAVED, /* [E, H, 2I]; even columns gate (gpt-oss BF16; its MXFP4 is OI interleaved) */
} tmb_stack;

/* Spellings that particular loaders need (formats.md 5.5). */
enum {
    TMB_QUIRK_EXPERT_ALIAS_MLP = 1,   /* also write the key "….mlp.experts" for block_sparse_moe */
    TMB_QUIRK_PER_EXPERT_KEYS = 2,    /* SGLang wants a key for each expert's Linear */
    TMB_QUIRK_NO_KV_SCALES = 4,       /* a loader breaks on k_scale/v_scale, or never reads them */
    TMB_QUIRK_MLA = 8,                /* no KV scale tensors: MLA drops them */
    TMB_QUIRK_NO_SHARED_FUSION = 16,  /* SGLang needs --disable-shared-experts-fusion */
    TMB_QUIRK_STACKED_OUTPUT = 32,    /* ModelOpt layout keeps quantized experts 3-D; no engine reads them */
    TMB_QUIRK_NO_KV_FP8 = 64,         /* vLLM refuses an FP8 KV cache */
    TMB_QUIRK_EXCLUDE_BY_GLOB = 128,  /* SGLang renames excluded names, and asks by the old ones */
    TMB_QUIRK_NVFP4_BY_KEYS = 256,    /* vLLM leaves attention out of a uniform NVFP4 model */
};

/* What an engine cannot load of this architecture: a sentence for whoever quantizes so. */
typedef struct tmb_arch_caution {
    const char *text;    /* NULL ends the list */
    const char *layout;  /* "modelopt", "compressed-tensors"; NULL: either */
    tmb_role role;       /* of the Linear */
    const char *leaf;    /* its last part; NULL: any */
    const char *formats; /* "nvfp4 int4", families; NULL: any */
} tmb_arch_caution;
#define TMB_CAUTIONS_END {NULL, NULL, TMB_ROLE_OTHER, NULL, NULL}

/* An engine's own word for one part of a module's name. */
typedef struct tmb_arch_rename {
    const char *from, *to; /* from NULL ends the list */
} tmb_arch_rename;

typedef struct tmb_arch {
    const char *name;               /* "qwen3_moe" */
    const char *const *model_types; /* NULL-terminated */
    const char *const *prefixes;    /* of the text model, tried in order; NULL-terminated; "" is legal */
    const tmb_arch_row *rows;
    const tmb_arch_fuse *fuses; /* NULL, or ends with an empty leaves[0]; tried before the common ones */
    tmb_stack stack;
    unsigned quirks;
    const char *engines_note; /* printed in the summary when not NULL */
    const tmb_arch_forward *forward; /* NULL: it cannot be run */
    const char *not_run; /* what of it is in the way; NULL: forward says how, or nothing is known */
    const tmb_arch_caution *cautions; /* NULL: none */
    /* NULL: every engine goes by the hub's names.  The names of an engine that reads attention in
     * high precision only are written for jobs that leave it there, and for no others: an engine
     * that finds no name stops, where one that finds it would read codes as numbers. */
    const tmb_arch_rename *renames;
} tmb_arch;

#endif
