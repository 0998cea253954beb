/* cmd_tokenize.c - tombac tokenize: text to token ids and back, a line at a time. */
#include "config.h"
#include "src/commands.h"
#include "src/stop.h"

#include "moe/io/calls.h"
#include "moe/tokens/lines.h"
#include "moe/tokens/tokenizer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

typedef struct options {
    tmb_common common;
    bool no_special, decode, skip_special;
    const char *input; /* "jsonl", "text", "lines"; NULL: by the ending */
} options;

typedef struct job {
    const options *o;
    const tmb_tokenizer *tokenizer;
    tmb_encoder *encoder;
    tmb_ids ids;
    const char *name; /* of the input */
} job;

static void print_ids(const tmb_ids *l)
{
    fputs("{\"input_ids\":[", stdout);
    for (size_t i = 0; i < l->n; i++) {
        char digits[16], *p = digits + sizeof digits;
        uint32_t v = (uint32_t)l->ids[i];
        do
            *--p = (char)('0' + v % 10);
        while (v /= 10);
        if (i) putchar(',');
        fwrite(p, 1, (size_t)(digits + sizeof digits - p), stdout);
    }
    fputs("]}\n", stdout);
}

static void print_text(const char *text, size_t n)
{
    fputs("{\"text\":\"", stdout);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c == '\n')
            fputs("\\n", stdout);
        else if (c < 0x20 || c == 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    fputs("\"}\n", stdout);
}

static tmb_status written(tmb_err *err)
{
    return ferror(stdout) ? tmb_fail_errno(err, TMB_EIO, "standard output: cannot write") : TMB_OK;
}

static tmb_status encode(job *j, const char *text, size_t n, const char *name, tmb_err *err)
{
    j->ids.n = 0;
    TRY(tmb_encode(j->encoder, text, n, !j->o->no_special, name, &j->ids, err));
    print_ids(&j->ids);
    return written(err);
}

static tmb_status decode(job *j, tmb_err *err)
{
    char *text;
    size_t n;
    TRY(tmb_decode(j->tokenizer, j->ids.ids, j->ids.n, j->o->skip_special, &text, &n, err));
    print_text(text, n);
    free(text);
    return written(err);
}

static tmb_status json_line(job *j, char *line, size_t n, uint64_t number, tmb_err *err)
{
    char *text, where[TMB_ERR_BYTES];
    size_t text_n = 0;
    bool has_ids;
    if (tmb_line_blank(line, n)) return TMB_OK;
    snprintf(where, sizeof where, "%s: line %" PRIu64, j->name, number);
    j->ids.n = 0;
    TRY(tmb_line_parse(line, n, j->name, number, &text, &text_n, &j->ids, &has_ids, err));
    if (j->o->decode) {
        if (has_ids) return decode(j, err);
        return tmb_fail(err, TMB_EDATA, "%s: no input_ids; --decode reads {\"input_ids\": [...]}",
                        where);
    }
    if (text) return encode(j, text, text_n, where, err);
    return tmb_fail(err, TMB_EDATA, "%s: no text; a line is {\"text\": \"...\"}", where);
}

static tmb_status each_line(job *j, int fd, bool json, tmb_err *err)
{
    tmb_lines lines;
    tmb_lines_open(&lines, fd, j->name);
    tmb_status status = TMB_OK;
    while (!status) {
        char *line, where[TMB_ERR_BYTES];
        size_t n;
        status = tmb_lines_next(&lines, &line, &n, err);
        if (status || !line) break;
        snprintf(where, sizeof where, "%s: line %" PRIu64, j->name, lines.line);
        status = json ? json_line(j, line, n, lines.line, err) : encode(j, line, n, where, err);
    }
    tmb_lines_close(&lines);
    return status;
}

/* The whole input is one text. */
static tmb_status whole(job *j, int fd, tmb_err *err)
{
    tmb_buf text = {0};
    tmb_status status = TMB_OK;
    for (;;) {
        status = tmb_buf_room(&text, 1 << 20, err);
        if (status) break;
        ssize_t got;
        TMB_AGAIN(got, read(fd, text.p + text.n, text.room - text.n));
        if (got < 0) status = tmb_fail_errno(err, TMB_EIO, "%s: cannot read", j->name);
        if (got <= 0) break;
        text.n += (size_t)got;
        if (text.n > TMB_LINE_MAX) break; /* tmb_encode() says what to do */
    }
    if (!status) status = encode(j, (const char *)text.p, text.n, j->name, err);
    free(text.p);
    return status;
}

/* How the input is read: said, or told by the ending. */
static tmb_status how(const options *o, const char *path, const char **input, tmb_err *err)
{
    const char *dot = strrchr(path, '.');
    *input = o->input;
    if (o->decode && o->input && strcmp(o->input, "jsonl") != 0)
        return tmb_fail(err, TMB_EUSAGE, "--decode reads JSON lines; leave --input out");
    if (!*input && (o->decode || !strcmp(path, "-") || (dot && !strcmp(dot, ".jsonl"))))
        *input = "jsonl";
    if (!*input && dot && !strcmp(dot, ".txt")) *input = "text";
    if (*input) return TMB_OK;
    return tmb_fail(err, TMB_EUSAGE,
                    "%s: neither .jsonl nor .txt; say --input jsonl, --input text (one text) or "
                    "--input lines (a text a line)",
                    path);
}

static tmb_status run_input(job *j, const char *path, tmb_err *err)
{
    const char *input;
    TRY(how(j->o, path, &input, err));
    bool standard = !strcmp(path, "-");
    int fd = standard ? STDIN_FILENO : tmb_openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open", path);
    j->name = standard ? "standard input" : path;
    tmb_status status =
        !strcmp(input, "text") ? whole(j, fd, err) : each_line(j, fd, !strcmp(input, "jsonl"), err);
    if (!standard) (void)tmb_close(fd);
    return status;
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS], *input;
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    TRY(how(&o, operands[1], &input, err));
    tmb_stop_uninstall(); /* nothing is left half done: a signal ends it, even while it waits */
    tmb_tokenizer *tokenizer = NULL;
    job j = {.o = &o};
    tmb_status status = tmb_tokenizer_load(&tokenizer, operands[0], err);
    j.tokenizer = tokenizer;
    if (!status) status = tmb_encoder_open(&j.encoder, tokenizer, err);
    if (!status) status = run_input(&j, operands[1], err);
    free(j.ids.ids);
    tmb_encoder_close(j.encoder);
    tmb_tokenizer_close(tokenizer);
    return status;
}

static const tmb_arg args[] = {
    {"no-special", 0, TMB_ARG_FLAG, offsetof(options, no_special), NULL,
     "leave out what the tokenizer puts around a text (BOS, EOS)", NULL},
    {"decode", 0, TMB_ARG_FLAG, offsetof(options, decode), NULL,
     "the way back: JSON lines with input_ids in, with text out", NULL},
    {"skip-special", 0, TMB_ARG_FLAG, offsetof(options, skip_special), NULL,
     "decode without special tokens", NULL},
    {"input", 0, TMB_ARG_CHOICE, offsetof(options, input), "HOW",
     "jsonl, text (one text) or lines (a text a line) [by the ending; - is jsonl]",
     "jsonl|text|lines"},
    {0},
};

const tmb_command tmb_command_tokenize = {
    .name = "tokenize",
    .synopsis = "TOKENIZER_JSON|CKPT FILE|- [options]",
    .about = "Turn text into token ids by a model's own tokenizer.json, and back",
    .help =
        "FILE: a .txt, which is one text, or JSON lines {\"text\": \"...\"}; out come JSON lines\n"
        "{\"input_ids\": [...]}. A tokenizer whose parts are not all known is refused by name.\n"
        "  tombac tokenize models/Qwen3-30B-A3B calib.jsonl > calib-ids.jsonl\n"
        "  echo '{\"text\": \"Hello\"}' | tombac tokenize models/Qwen3-30B-A3B -\n",
    .operand = "tokenizer or input",
    .least = 2,
    .most = 2,
    .args = args,
    .run = run,
};
