/* commands.c - the list of commands, in the order that --help shows. */
#include "config.h"
#include "src/commands.h"

#include <string.h>

#define COMMANDS X(plan) X(quantize) X(verify) X(inspect) X(doctor)

#define X(name) extern const tmb_command tmb_command_##name;
COMMANDS
#undef X
#define X(name) &tmb_command_##name,
static const tmb_command *const commands[] = {COMMANDS NULL};
#undef X

const tmb_command *tmb_command_at(int i)
{
    return commands[i];
}

const tmb_command *tmb_command_find(const char *name)
{
    for (int i = 0; commands[i]; i++)
        if (!strcmp(commands[i]->name, name)) return commands[i];
    return NULL;
}
