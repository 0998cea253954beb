/* commands.c - the list of commands, in the order that --help shows. */
#include "config.h"
#include "src/commands.h"

#include "moe/io/match.h"

#include <string.h>

#define COMMANDS                                                                                   \
    X(plan)                                                                                        \
    X(quantize) X(verify) X(inspect) X(trace) X(doctor) X(tokenize) X(calibrate) X(stats) X(eval)  \
        X(diagnose) X(bench)

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

/* "quantize" of "bench quantize". */
static const char *own_word(const tmb_command *part)
{
    const char *blank = strrchr(part->name, ' ');
    return blank ? blank + 1 : part->name;
}

const tmb_command *tmb_command_part(const tmb_command *command, const char *word)
{
    for (int i = 0; command->parts && word && command->parts[i]; i++)
        if (!strcmp(own_word(command->parts[i]), word)) return command->parts[i];
    return NULL;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    return false;
}

tmb_status tmb_command_run(const tmb_command *command, int argc, char **argv, tmb_err *err)
{
    if (!command->parts) return command->run(command, argc, argv, err);
    const char *word = argc > 1 ? argv[1] : NULL;
    const tmb_command *part = tmb_command_part(command, word);
    if (part) return part->run(part, argc - 1, argv + 1, err);
    if (asks_for_help(argc, argv)) {
        tmb_args_help(command, stdout);
        return TMB_OK;
    }
    const char *names[16];
    char all[160] = "";
    size_t n = 0, o = 0;
    for (; command->parts[n] && n < 16 && o < sizeof all; n++) {
        names[n] = own_word(command->parts[n]);
        o += (size_t)snprintf(all + o, sizeof all - o, "%s%s", n ? ", " : "", names[n]);
    }
    const char *near = word ? tmb_nearest(word, names, n) : NULL;
    if (near)
        return tmb_fail(err, TMB_EUSAGE, "unknown word '%.80s' behind %s; did you mean %s?", word,
                        command->name, near);
    if (word)
        return tmb_fail(err, TMB_EUSAGE, "unknown word '%.80s' behind %s; it takes %s", word,
                        command->name, all);
    return tmb_fail(err, TMB_EUSAGE, "%s needs a word behind it: %s", command->name, all);
}
