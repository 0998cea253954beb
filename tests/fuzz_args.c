/* fuzz_args - the command line: words separated by newlines, the first one a command.  Numbers
 * stay in their range, words are those of the command line, and a refusal is one line. */
#include "config.h"
#include "src/commands.h"
#include "tests/fuzz.h"

#include <string.h>

enum { WORDS = 24 };

typedef union room {
    tmb_common common;
    uint64_t words[512];
} room;

static void check(const tmb_command *c, const room *options, const char *const *operands)
{
    int n = 0;
    for (const tmb_arg *a = c->args; a->name; a++) {
        const char *at = (const char *)options + a->offset;
        MUST(a->offset + 8 <= sizeof *options);
        if (a->kind == TMB_ARG_COUNT) MUST(*(const int *)at >= 0 && *(const int *)at <= 4096);
        if (a->kind == TMB_ARG_CHOICE && *(const char *const *)at)
            MUST(strstr(a->choices, *(const char *const *)at) != NULL);
    }
    MUST(options->common.threads >= 0 && options->common.threads <= 4096);
    while (n < TMB_OPERANDS && operands[n])
        MUST(*operands[n++]);
    MUST(options->common.help || (n >= c->least && n <= c->most));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    room options = {0};
    tmb_err err = {0};
    const char *operands[TMB_OPERANDS];
    char *argv[WORDS + 1] = {0}, *text = malloc(size + 1);
    int argc = 0;
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* --help, some million times */
    static int quiet;
    if (!quiet++) MUST(freopen("/dev/null", "w", stdout));
#endif
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    for (char *at = text; at && argc < WORDS; argc++) {
        argv[argc] = at;
        if ((at = strchr(at, '\n'))) *at++ = 0;
    }
    int first = 0;
    const tmb_command *c = tmb_command_find(argv[0]);
    if (c && c->parts) c = argc > 1 ? tmb_command_part(c, argv[first = 1]) : NULL;
    if (c) {
        tmb_status status = tmb_args_parse(c, &options, argc - first, argv + first, operands, &err);
        if (status)
            MUST(status == TMB_EUSAGE && *err.message && !strpbrk(err.message, "\n\033"));
        else
            check(c, &options, operands);
    }
    free(text);
    return 0;
}
