/* commands.h - the list of commands. */
#ifndef TMB_SRC_COMMANDS_H
#define TMB_SRC_COMMANDS_H

#include "src/args.h"

const tmb_command *tmb_command_find(const char *name); /* NULL when there is none */
const tmb_command *tmb_command_at(int i);              /* NULL after the last */

#endif
