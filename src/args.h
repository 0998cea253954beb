/* args.h - long options from one table, and the help made from the same table.
 *
 * Options may stand anywhere, as --name VALUE or --name=VALUE; -- ends them.  Names are never
 * abbreviated, so that a script does not break when an option is added. */
#ifndef TMB_SRC_ARGS_H
#define TMB_SRC_ARGS_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum tmb_arg_kind {
    TMB_ARG_FLAG,   /* bool */
    TMB_ARG_TEXT,   /* const char * */
    TMB_ARG_LIST,   /* tmb_texts: may be given several times */
    TMB_ARG_COUNT,  /* int >= 1 */
    TMB_ARG_SIZE,   /* uint64_t: 512M, 16G */
    TMB_ARG_CHOICE, /* const char *, one of `choices` "auto|plain|json|none" */
} tmb_arg_kind;

/* What a TMB_ARG_LIST gathers. */
enum { TMB_TEXTS_MAX = 64 };
typedef struct tmb_texts {
    const char *at[TMB_TEXTS_MAX]; /* borrowed from argv, in the order given */
    size_t n;
} tmb_texts;

typedef struct tmb_arg {
    const char *name; /* "max-ram", without dashes; NULL ends the table */
    char letter;      /* 'o' for -o, 0 for none */
    tmb_arg_kind kind;
    size_t offset;     /* of the value in the command's options struct */
    const char *value; /* "SIZE" in the help */
    const char *help;  /* one line */
    const char *choices;
} tmb_arg;

/* What every command takes; the first member of every command's options struct. */
typedef struct tmb_common {
    bool help, json, quiet;
    const char *progress; /* "auto", "plain", "json", "none" */
    int threads;          /* 0: one a processor */
} tmb_common;

/* One command of the program. */
typedef struct tmb_command tmb_command;
struct tmb_command {
    const char *name;     /* "quantize" */
    const char *synopsis; /* "CKPT --recipe R -o OUT [options]" */
    const char *about;    /* one line */
    const char *help;     /* examples and notes, printed by --help after the options */
    const char *operand;  /* what its operands are: "checkpoint folder CKPT" */
    int least, most;      /* operands */
    const tmb_arg *args;  /* its own options */
    tmb_status (*run)(const tmb_command *self, int argc, char **argv, tmb_err *err);
    /* (optional) What the word behind it chooses from, up to a NULL: then operand, least, most,
     * args and run are not used.  The name of a part has both words, "bench quantize". */
    const tmb_command *const *parts;
};

enum { TMB_OPERANDS = 64 };

/* Parse argv[1..] into options, which starts with a tmb_common and is zeroed by the caller, and
 * operands [TMB_OPERANDS], borrowed from argv.  --help prints and sets options.help: the caller
 * then returns at once.  TMB_EUSAGE with the nearest option otherwise. */
tmb_status tmb_args_parse(const tmb_command *command, void *options, int argc, char **argv,
                          const char *operands[TMB_OPERANDS], tmb_err *err) TMB_CHECKED;

/* "tombac quantize 'my model' -o out", quoted for a shell: what a message tells the user to run
 * again.  argv[0] is the command's name.  malloc'ed, the caller's; NULL without memory. */
char *tmb_command_line(int argc, char **argv);

/* The screen that --help shows. */
void tmb_args_help(const tmb_command *command, FILE *to);

#endif
