/* commands.h - the list of commands. */
#ifndef TMB_SRC_COMMANDS_H
#define TMB_SRC_COMMANDS_H

#include "src/args.h"

const tmb_command *tmb_command_find(const char *name); /* NULL when there is none */
const tmb_command *tmb_command_at(int i);              /* NULL after the last */
/* The part of a command that `word` names; NULL when there is none, or no word. */
const tmb_command *tmb_command_part(const tmb_command *command, const char *word);
/* Run it, or the part that argv[1] names; argv[0] is the word of the command itself. */
tmb_status tmb_command_run(const tmb_command *command, int argc, char **argv,
                           tmb_err *err) TMB_CHECKED;

#endif
