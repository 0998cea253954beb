/* data_args.h - --data and [calibration]: the sequences a command runs a model over. */
#ifndef TMB_SRC_DATA_ARGS_H
#define TMB_SRC_DATA_ARGS_H

#include "src/args.h"
#include "src/job.h"

#include "moe/tokens/data.h"

/* The sources of --data, or without any those of the job's recipe, sampled as its [calibration]
 * says; texts through the checkpoint's own tokenizer.json; ids checked against its embedding.
 * ids_type: "uint16", "uint32" or NULL.  TMB_EUSAGE when neither names a source. */
tmb_status tmb_calibration_data(tmb_data **out, const tmb_job *job, const tmb_texts *data,
                                const char *ids_type, tmb_err *err) TMB_CHECKED;

/* --data and its relatives, of a command that takes sources as they are. */
typedef struct tmb_data_args {
    tmb_texts data;       /* "NAME=PATH[:WEIGHT]" or "PATH" */
    const char *ids_type; /* of .bin files: "uint16", "uint32" or NULL */
    int length, samples;  /* 0: not said */
    bool windows;         /* documents are joined and cut into windows of exactly length [512] */
} tmb_data_args;

/* The options of windows, in a table of tmb_arg; `member` is the tmb_data_args of `type`. */
#define TMB_WINDOW_ARGS(type, member)                                                              \
    {"length", 0, TMB_ARG_COUNT, offsetof(type, member.length), "N",                               \
     "tokens of a window; what is left at the end of a file is dropped [512]", NULL},              \
        {"samples", 0, TMB_ARG_COUNT, offsetof(type, member.samples), "N",                         \
         "take so many windows, dealt by weight [all]", NULL},                                     \
        {"ids-type", 0, TMB_ARG_CHOICE, offsetof(type, member.ids_type), "T",                      \
         "of .bin files: uint16 or uint32 [uint16]", "uint16|uint32"}

/* Whole documents, each a sequence, which length cuts; or windows.  samples takes some.  vocab:
 * rows of the model's embedding; 0: looked up. */
tmb_status tmb_data_args_open(tmb_data **out, const tmb_data_args *args, const tmb_model *model,
                              size_t vocab, tmb_err *err) TMB_CHECKED;

#endif
