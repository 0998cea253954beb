/* test_fault_stats.c - the same as test_faults for what makes and uses statistics: every call of
 * the system and of malloc in a small calibrate, eval and quantize --stats fails once.  A
 * statistics file is there with all it must have or not at all, and the same command goes on.
 *
 * What HDF5 does inside is its own: its calls are not failed. */
#include "config.h"
#include "moe/calib/file.h"
#include "tests/fault_sweep.h"

typedef enum product { OUT_TEXT, OUT_STATS, OUT_FOLDER } product;

typedef struct command {
    const char *name;
    const char *const *argv;
    product product;
} command;

static const char *stats_path, *partial_path, *out_path;
static long struck_runs;

/* What the command left, as one text: "" nothing, "?" what cannot be read. */
static void product_of(const command *c, char out[TMB_SHA256_HEX])
{
    char path[600], text[65536];
    tmb_stats_file *f;
    out[0] = '\0';
    if (c->product == OUT_FOLDER) {
        digest(out_path, out);
    } else if (c->product == OUT_STATS) {
        if (access(stats_path, F_OK)) return;
        strcpy(out, "?");
        if (tmb_stats_open(&f, stats_path, NULL)) return;
        snprintf(out, TMB_SHA256_HEX, "%s", f->digest);
        tmb_stats_close(f);
    } else {
        snprintf(path, sizeof path, "%s/stdout", root);
        read_text(path, text, sizeof text);
        if (tmb_sha256(text, strlen(text), out, NULL)) strcpy(out, "?");
    }
}

static void clear(const command *c)
{
    if (c->product == OUT_FOLDER) remove_tree(out_path);
    if (c->product != OUT_STATS) return;
    unlink(stats_path);
    remove_tree(partial_path);
}

static const char *judge(const command *c, const fault *f, const outcome *o, const char *want)
{
    char have[TMB_SHA256_HEX];
    product_of(c, have);
    if (o->rc == 0) {
        if (*o->text) return "it succeeded, with a message";
        bool may_stay = f->kind == FAULT_UNLINK || strstr(o->struck, ".partial");
        if (c->product == OUT_STATS && !may_stay && access(partial_path, F_OK) == 0)
            return "it succeeded, and its folder is left";
        return strcmp(have, want) == 0 ? NULL : "it succeeded, with another result";
    }
    if (f->harmless && f->kind != FAULT_THREAD) /* a rank cannot be without a thread */
        return "it failed, and need not have";
    if (!right_code(f, o->rc)) return "not the right exit code";
    const char *why = message_fault(f, o);
    if (why) return why;
    if (c->product == OUT_STATS && *have && strcmp(have, want) != 0)
        return "half a statistics file has the name of a whole one";
    return NULL;
}

static const char *again(const command *c, const char *want)
{
    char have[TMB_SHA256_HEX];
    outcome o;
    faulty_run(c->argv, NULL, NULL, &o);
    product_of(c, have);
    if (o.rc) return "the same command does not go on";
    return strcmp(have, want) == 0 ? NULL : "the same command ends with another result";
}

static int strike_all(const command *c, const fault *f, unsigned long long calls, const char *want)
{
    unsigned long long step = step_for(calls, f->kind == FAULT_MEMORY ? 3 : 1);
    int bad = 0;
    for (unsigned long long at = (step + 1) / 2; at <= calls; at += step) {
        char text[64];
        outcome o;
        clear(c);
        snprintf(text, sizeof text, "%s %llu %d %s", fault_words[f->kind], at, f->error, f->how);
        faulty_run(c->argv, text, disk, &o);
        const char *why = judge(c, f, &o, want);
        bool left = c->product == OUT_STATS && access(partial_path, F_OK) == 0;
        if (left && !o.rc) unlink(stats_path); /* which is whole, and would not be made again */
        if (!why && (o.rc || left)) why = again(c, want);
        struck_runs++;
        if (why && ++bad <= 5)
            printf("# %s, %s (%s): %s: %d, struck %s: %s", c->name, text, strerror(f->error), why,
                   o.rc, o.struck, *o.text ? o.text : "\n");
    }
    return bad;
}

static void sweep(const command *c)
{
    char want[TMB_SHA256_HEX];
    outcome o;
    clear(c);
    faulty_run(c->argv, NULL, disk, &o);
    product_of(c, want);
    if (!ok(o.rc == 0 && strlen(want) == TMB_SHA256_HEX - 1,
            "%s without a fault: %llu calls of malloc %s", c->name, o.calls[FAULT_MEMORY], o.text))
        return;
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
        if (o.calls[faults[k].kind])
            ok(!strike_all(c, &faults[k], o.calls[faults[k].kind], want),
               "%s: %s fails with %s, %s", c->name, fault_words[faults[k].kind],
               strerror(faults[k].error), faults[k].how);
}

int main(int argc, char **argv)
{
    make_fast_root();
    stats_path = in_root("stats.h5");
    partial_path = in_root("stats.h5.partial");
    out_path = in_root("out");
    const char *source = data_path("arch/mixtral"), *recipe = in_root("recipe.ini");
    const char *data = in_root("ids.jsonl");
    write_file(root, "recipe.ini",
               "[recipe]\nversion = 1\n[rules]\n*experts* = nvfp4\n* = fp8\n"
               "[calibration]\nlength = 8\nmin_tokens = 0\nsamples = 2\n");
    write_file(root, "ids.jsonl",
               "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10,11,12]}\n"
               "{\"input_ids\":[20,21,22,23,24,5,6,7]}\n");
    const char *const calibrate[] = {"tombac", "calibrate", source, "--recipe", recipe,
                                     "--data", data,        "-o",   stats_path, "--threads",
                                     "1",      "-q",        NULL};
    const char *const quantize[] = {"tombac",  "quantize", source, "--recipe", recipe,
                                    "--stats", stats_path, "-o",   out_path,   "--threads",
                                    "1",       "-q",       NULL};
    const char *const eval[] = {"tombac", "eval", source,     "--against", source,
                                "--data", data,   "--length", "8",         "--threads",
                                "1",      "-q",   NULL};
    const command commands[] = {{"calibrate", calibrate, OUT_STATS},
                                {"quantize --stats", quantize, OUT_FOLDER},
                                {"eval", eval, OUT_TEXT}};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        outcome o;
        if (commands[i].product ==
            OUT_FOLDER) /* what it needs: faults left the one that was made */
            faulty_run(calibrate, NULL, NULL, &o);
        if (argc < 2 || strcmp(argv[1], commands[i].name) == 0) sweep(&commands[i]);
    }
    printf("# %ld runs with a fault\n", struck_runs);
    remove_tree(root);
    return done();
}
