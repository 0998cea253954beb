/* main.c - finds the command, prints its error as one line, returns its status. */
#include "config.h"
#include "moe/io/match.h"
#include "src/commands.h"
#include "src/stop.h"

#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void print_help(FILE *to)
{
    fputs("usage: tombac COMMAND ...\n"
          "Turn a Mixture-of-Experts checkpoint into a mixed-precision one by a short recipe.\n\n",
          to);
    for (int i = 0; tmb_command_at(i); i++)
        fprintf(to, "  %-10s  %s\n", tmb_command_at(i)->name, tmb_command_at(i)->about);
    fputs("\n"
          "  tombac COMMAND --help    its options and examples; tombac --version\n"
          "\n"
          "The first hour:\n"
          "  tombac plan MODEL --recipe nvfp4-experts       what would be written, to the byte\n"
          "  tombac quantize MODEL --recipe nvfp4-experts -o OUT\n"
          "  tombac verify OUT --against MODEL\n"
          "\n"
          "Exit status: 0 done, 1 what was compared differs, 64 and above an error (man tombac).\n",
          to);
}

static tmb_status unknown_command(const char *word, tmb_err *err)
{
    const char *names[32];
    char all[256] = "";
    size_t n = 0, o = 0;
    for (; tmb_command_at((int)n) && n < 32 && o < sizeof all; n++) {
        names[n] = tmb_command_at((int)n)->name;
        o += (size_t)snprintf(all + o, sizeof all - o, "%s%s", n ? ", " : "", names[n]);
    }
    const char *near = tmb_nearest(word, names, n);
    struct stat st;
    if (near)
        return tmb_fail(err, TMB_EUSAGE, "unknown command '%.80s'; did you mean %s?", word, near);
    if (word[0] == '-')
        return tmb_fail(err, TMB_EUSAGE,
                        "option %.80s stands before the command; the commands are %s", word, all);
    if (!stat(word, &st))
        return tmb_fail(err, TMB_EUSAGE,
                        "'%.200s' is no command; a command comes first: tombac plan %.200s "
                        "--recipe nvfp4-experts",
                        word, word);
    return tmb_fail(err, TMB_EUSAGE, "unknown command '%.80s'; this version has %s", word, all);
}

static tmb_status dispatch(int argc, char **argv, tmb_err *err)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (!*word) return tmb_fail(err, TMB_EUSAGE, "no command given; 'tombac --help' lists them");
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        puts(PACKAGE_STRING);
        return TMB_OK;
    }
    bool help = !strcmp(word, "help");
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || (help && argc == 2)) {
        print_help(stdout);
        return TMB_OK;
    }
    if (help) word = argv[2];
    const tmb_command *command = tmb_command_find(word);
    if (!command) return unknown_command(word, err);
    if (help) {
        const tmb_command *part = tmb_command_part(command, argv[3]);
        tmb_args_help(part ? part : command, stdout);
        return TMB_OK;
    }
    return tmb_command_run(command, argc - 1, argv + 1, err);
}

int main(int argc, char **argv)
{
    tmb_err err = {0};
    setlocale(LC_CTYPE, "C.UTF-8"); /* numbers stay those of the C locale */
    tmb_stop_install();
    tmb_status status = dispatch(argc, argv, &err);
    /* A full disk shows when buffered output is written: a truncated result is no success. */
    errno = 0;
    if ((fflush(stdout) || ferror(stdout)) && !status)
        status = tmb_fail(&err, TMB_EIO, "standard output: cannot write: %s", strerror(errno));
    if (status && *err.message) fprintf(stderr, "tombac: %s\n", err.message);
    if (status && *tmb_stop_flag()) {
        signal(*tmb_stop_flag(), SIG_DFL);
        raise(*tmb_stop_flag());
    }
    return (int)status;
}
