/* args.h - long options from one table, and the help made from the same table. */
#ifndef TMB_SRC_ARGS_H
#define TMB_SRC_ARGS_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum tmb_arg_kind {
    TMB_ARG_FLAG,   /* bool */
    TMB_ARG_TEXT,   /* const char * */
    TMB_ARG_COUNT,  /* int >= 1 */
    TMB_ARG_SIZE,   /* uint64_t: 512M, 16G */
    TMB_ARG_CHOICE, /* const char *, one of `choices` "auto|plain|json|none" */
} tmb_arg_kind;

typedef struct tmb_arg {
    const char *name;  /* "max-ram", without dashes; NULL ends the table */
    char letter;       /* 'o' for -o, 0 for none */
    tmb_arg_kind kind;
    size_t offset;     /* of the value in the command's options struct */
    const char *value; /* "SIZE" in the help */
    const char *help;  /* one line */
    const char *choices;
} tmb_arg;

/* One command of the program. */
typedef struct tmb_command {
    const char *name;     /* "quantize" */
    const char *synopsis; /* "CKPT --recipe R -o OUT [options]" */
    const char *about;    /* one line */
    const char *help;     /* a paragraph and examples, printed by --help after the options */
    int (*run)(const struct tmb_command *self, int argc, char **argv);
} tmb_command;

/* Parse argv[1..] into options (by the table) and operands; operands [max] are borrowed from argv.
 * --help prints and ends with *done = true.  TMB_EUSAGE with the nearest option otherwise. */
tmb_status tmb_args_parse(const tmb_command *command, const tmb_arg *table, void *options,
                          int argc, char **argv, const char **operands, int max, int *n_operands,
                          bool *done, tmb_err *err) TMB_CHECKED;

#endif
