/* args.c - long options from one table. */
#include "config.h"
#include "src/args.h"

#include "moe/io/match.h"
#include "moe/recipe/recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OPTIONS_MAX = 64, COUNT_MAX = 4096 };

static const tmb_arg common[] = {
    {"threads", 0, TMB_ARG_COUNT, offsetof(tmb_common, threads), "N",
     "worker threads; the result is the same for any number [one a processor]", NULL},
    {"json", 0, TMB_ARG_FLAG, offsetof(tmb_common, json), NULL,
     "print the result as JSON on standard output", NULL},
    {"progress", 0, TMB_ARG_CHOICE, offsetof(tmb_common, progress), "HOW",
     "auto, plain, json or none, on standard error [auto]", "auto|plain|json|none"},
    {"quiet", 'q', TMB_ARG_FLAG, offsetof(tmb_common, quiet), NULL,
     "no progress, and no table where a file is the result", NULL},
    {"help", 'h', TMB_ARG_FLAG, offsetof(tmb_common, help), NULL, "print this", NULL},
    {0},
};

/* Which option argv[i] gave, as the user wrote it, and its value. */
typedef struct parser {
    const tmb_command *command;
    void *options;
    int argc;
    char **argv;
    const char **operands;
    int n_operands;
    const tmb_arg *seen[OPTIONS_MAX];
    int n_seen;
} parser;

static const tmb_arg *find(const tmb_arg *table, const char *name, size_t n, char letter)
{
    for (; table->name; table++)
        if (letter ? table->letter == letter
                   : strlen(table->name) == n && !strncmp(table->name, name, n))
            return table;
    return NULL;
}

static const tmb_arg *find_any(const tmb_command *command, const char *name, size_t n, char letter)
{
    const tmb_arg *arg = find(command->args, name, n, letter);
    return arg ? arg : find(common, name, n, letter);
}

/* "--recipes" or "-recipe": the nearest option, spelled the way it must be. */
static tmb_status unknown(const parser *p, const char *word, tmb_err *err)
{
    const char *name = word + strspn(word, "-"), *names[OPTIONS_MAX];
    char bare[64];
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(name, "="), name);
    size_t n = 0;
    for (const tmb_arg *a = p->command->args; a->name && n < OPTIONS_MAX; a++)
        names[n++] = a->name;
    for (const tmb_arg *a = common; a->name && n < OPTIONS_MAX; a++)
        names[n++] = a->name;
    const char *near = *bare ? tmb_nearest(bare, names, n) : NULL;
    if (!near) /* an abbreviation is far by edits: --max for --max-ram */
        for (size_t i = 0; i < n && !near && strlen(bare) > 1; i++)
            if (!strncmp(names[i], bare, strlen(bare))) near = names[i];
    for (size_t i = 0; i < n && !near; i++) /* and so is --output for --out */
        if (strlen(names[i]) > 2 && !strncmp(names[i], bare, strlen(names[i]))) near = names[i];
    if (near)
        return tmb_fail(err, TMB_EUSAGE, "unknown option %.80s; did you mean --%s?", word, near);
    return tmb_fail(err, TMB_EUSAGE, "unknown option %.80s; 'tombac %s --help' lists them", word,
                    p->command->name);
}

static tmb_status choose(const tmb_arg *arg, const char *value, const char **out, tmb_err *err)
{
    const char *words[16];
    char list[128];
    snprintf(list, sizeof list, "%s", arg->choices);
    size_t n = 0;
    for (char *save = NULL, *w = strtok_r(list, "|", &save); w && n < 16;
         w = strtok_r(NULL, "|", &save)) {
        if (!strcmp(w, value)) {
            *out = value;
            return TMB_OK;
        }
        words[n++] = w;
    }
    const char *near = tmb_nearest(value, words, n);
    char all[160] = "";
    for (size_t i = 0, o = 0; i < n && o < sizeof all; i++)
        o += (size_t)snprintf(all + o, sizeof all - o, "%s%s", i ? ", " : "", words[i]);
    return tmb_fail(err, TMB_EUSAGE, "--%s: unknown word '%.80s'; %s%s%sit takes %s", arg->name,
                    value, near ? "did you mean " : "", near ? near : "", near ? "? " : "", all);
}

static tmb_status store(const tmb_arg *arg, const char *value, void *options, tmb_err *err)
{
    void *at = (char *)options + arg->offset;
    if (arg->kind == TMB_ARG_TEXT) {
        *(const char **)at = value;
    } else if (arg->kind == TMB_ARG_LIST) {
        tmb_texts *texts = at;
        if (texts->n == TMB_TEXTS_MAX)
            return tmb_fail(err, TMB_EUSAGE, "--%s is given more than %d times; join some of them",
                            arg->name, TMB_TEXTS_MAX);
        texts->at[texts->n++] = value;
    } else if (arg->kind == TMB_ARG_CHOICE) {
        return choose(arg, value, at, err);
    } else if (arg->kind == TMB_ARG_COUNT) {
        char *end;
        errno = 0;
        long n = strtol(value, &end, 10);
        if (errno || *end || end == value || n < 1 || n > COUNT_MAX)
            return tmb_fail(err, TMB_EUSAGE, "--%s: '%.80s' is no number from 1 to %d", arg->name,
                            value, COUNT_MAX);
        *(int *)at = (int)n;
    } else {
        uint64_t bytes;
        if (!tmb_size_parse(value, &bytes) || !bytes)
            return tmb_fail(err, TMB_EUSAGE,
                            "--%s: '%.80s' is no size; write bytes or 512M, 16G, 1.5T", arg->name,
                            value);
        *(uint64_t *)at = bytes;
    }
    return TMB_OK;
}

/* The option at argv[*i]; takes its value along. */
static tmb_status take_option(parser *p, int *i, tmb_err *err)
{
    const char *word = p->argv[*i];
    bool is_long = word[1] == '-';
    const char *name = word + 1 + is_long, *equals = is_long ? strchr(name, '=') : NULL;
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    if (!is_long && n != 1) return unknown(p, word, err);
    const tmb_arg *arg = find_any(p->command, name, n, is_long ? 0 : *name);
    if (!arg) return unknown(p, word, err);
    if (arg->kind == TMB_ARG_FLAG) {
        if (equals)
            return tmb_fail(err, TMB_EUSAGE, "--%s takes no value; write --%s alone", arg->name,
                            arg->name);
        *(bool *)((char *)p->options + arg->offset) = true;
        return TMB_OK;
    }
    for (int k = 0; k < p->n_seen; k++)
        if (p->seen[k] == arg && arg->kind != TMB_ARG_LIST)
            return tmb_fail(err, TMB_EUSAGE, "--%s is given twice; keep one", arg->name);
    if (p->n_seen < OPTIONS_MAX) p->seen[p->n_seen++] = arg;

    const char *value = equals ? equals + 1 : *i + 1 < p->argc ? p->argv[*i + 1] : NULL;
    if (!value || !*value)
        return tmb_fail(err, TMB_EUSAGE, "--%s needs a value: --%s %s", arg->name, arg->name,
                        arg->value);
    if (!equals && value[0] == '-' && value[1])
        return tmb_fail(err, TMB_EUSAGE,
                        "--%s needs a value, but '%.80s' follows; write --%s=%s when that is meant",
                        arg->name, value, arg->name, arg->value);
    *i += !equals;
    return store(arg, value, p->options, err);
}

static tmb_status take_operand(parser *p, const char *word, tmb_err *err)
{
    if (p->n_operands == p->command->most || p->n_operands == TMB_OPERANDS)
        return tmb_fail(err, TMB_EUSAGE, "unexpected '%.200s'; usage: tombac %s %s", word,
                        p->command->name, p->command->synopsis);
    if (!*word)
        return tmb_fail(err, TMB_EUSAGE, "an empty argument; usage: tombac %s %s", p->command->name,
                        p->command->synopsis);
    p->operands[p->n_operands++] = word;
    return TMB_OK;
}

tmb_status tmb_args_parse(const tmb_command *command, void *options, int argc, char **argv,
                          const char *operands[TMB_OPERANDS], tmb_err *err)
{
    parser p = {
        .command = command, .options = options, .argc = argc, .argv = argv, .operands = operands};
    tmb_common *c = options;
    c->progress = "auto";
    for (int i = 0; i < TMB_OPERANDS; i++)
        operands[i] = NULL;
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        if (only_operands || argv[i][0] != '-' || !argv[i][1]) {
            TRY(take_operand(&p, argv[i], err));
        } else if (!strcmp(argv[i], "--")) {
            only_operands = true;
        } else {
            TRY(take_option(&p, &i, err));
        }
        if (c->help) {
            tmb_args_help(command, stdout);
            return TMB_OK;
        }
    }
    if (p.n_operands < command->least)
        return tmb_fail(err, TMB_EUSAGE, "no %s given; usage: tombac %s %s", command->operand,
                        command->name, command->synopsis);
    return TMB_OK;
}

static void print_table(const tmb_arg *table, FILE *to)
{
    for (; table->name; table++) {
        char left[64], letter[8] = "";
        if (table->letter) snprintf(letter, sizeof letter, "-%c, ", table->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, table->name, table->value ? " " : "",
                 table->value ? table->value : "");
        fprintf(to, "  %-20s  %s\n", left, table->help);
    }
}

void tmb_args_help(const tmb_command *command, FILE *to)
{
    fprintf(to, "usage: tombac %s %s\n%s.\n\n", command->name, command->synopsis, command->about);
    if (command->parts) {
        for (int i = 0; command->parts[i]; i++)
            fprintf(to, "  %-18s  %s\n", command->parts[i]->name, command->parts[i]->about);
        fprintf(to, "\n  %-18s  %s\n", "-h, --help", "print this, or what one of them takes");
    } else {
        print_table(command->args, to);
        print_table(common, to);
    }
    if (command->help) fprintf(to, "\n%s", command->help);
}

char *tmb_command_line(int argc, char **argv)
{
    size_t size = 16;
    for (int i = 0; i < argc; i++)
        size += 4 * strlen(argv[i]) + 3;
    char *line = malloc(size), *o = line;
    if (!line) return NULL;
    o = stpcpy(o, PACKAGE);
    for (int i = 0; i < argc; i++) {
        *o++ = ' ';
        bool plain = *argv[i] && !argv[i][strspn(argv[i], "abcdefghijklmnopqrstuvwxyz"
                                                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                          "0123456789_-./=:,@%+")];
        if (plain) {
            o = stpcpy(o, argv[i]);
            continue;
        }
        *o++ = '\'';
        for (const char *c = argv[i]; *c; c++)
            if (*c == '\'')
                o = stpcpy(o, "'\\''");
            else
                *o++ = *c;
        *o++ = '\'';
    }
    *o = 0;
    return line;
}
