/* test_faults.c - every call of the system and of malloc in a small plan, inspect, quantize and
 * verify fails once, one by one, with each error it can have: a message that names the file, the
 * right exit code, nothing leaked (under the sanitizers), nothing under a final name that is not
 * whole, and the same command afterwards ends with the same bytes.
 *
 * make check takes a sample of the calls, make check-long (TOMBAC_LONG=1) every one. */
#include "config.h"
#include "tests/fault_sweep.h"

#include <ctype.h>

typedef struct command {
    const char *name;
    const char *const *argv;
    bool writes;
    outcome want;
    char out_sha[TMB_SHA256_HEX]; /* of standard output */
} command;

static folder whole; /* what quantize makes */
static const char *out_path;
static long struck_runs;

/* Of standard output, but for what it says of this machine: its disk, its speed. */
static void output_sha(char sha[TMB_SHA256_HEX])
{
    char path[600], text[65536];
    snprintf(path, sizeof path, "%s/stdout", root);
    read_text(path, text, sizeof text);
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        end = end ? end + 1 : line + strlen(line);
        if (strncmp(line, "disk ", 5) == 0 || strncmp(line, "time ", 5) == 0)
            memmove(line, end, strlen(end) + 1);
        else
            line = end;
    }
    if (tmb_sha256(text, strlen(text), sha, NULL)) sha[0] = '\0';
}

static const char *judge(const command *c, const fault *f, const outcome *o)
{
    char sha[TMB_SHA256_HEX];
    folder now;
    const char *why = NULL;
    output_sha(sha);
    if (c->writes) folder_read(out_path, &now);
    if (o->rc == 0) { /* it mattered nothing: then nothing may differ */
        if (*o->text) return "it succeeded, with a message";
        if (c->writes) return folder_same(&now, &whole) ? NULL : "it succeeded, with other bytes";
        return strcmp(sha, c->out_sha) == 0 ? NULL : "it succeeded, with another result";
    }
    if (f->harmless) return "it failed, and need not have";
    if (!right_code(f, o->rc)) return "not the right exit code";
    if ((why = message_fault(f, o))) return why;
    if (c->writes && now.n >= 0 && (why = unfinished_fault(&now, &whole))) return why;
    return NULL;
}

static const char *again(const command *c)
{
    outcome o;
    folder now;
    faulty_run(c->argv, NULL, NULL, &o);
    folder_read(out_path, &now);
    if (o.rc) return "the same command does not go on";
    return folder_same(&now, &whole) ? NULL : "the same command ends with other bytes";
}

static int strike_all(const command *c, const fault *f)
{
    unsigned long long calls = c->want.calls[f->kind],
                       step = step_for(calls, f->kind == FAULT_MEMORY ? 5 : 2);
    int bad = 0;
    for (unsigned long long at = 1; at <= calls; at += step) {
        char text[64];
        outcome o;
        if (c->writes) folder_remove(out_path);
        snprintf(text, sizeof text, "%s %llu %d %s", fault_words[f->kind], at, f->error, f->how);
        faulty_run(c->argv, text, disk, &o);
        const char *why = judge(c, f, &o);
        /* what closes a file after success may fail when all is done: the folder is complete */
        if (!why && o.rc && c->writes) why = again(c);
        struck_runs++;
        if (why && ++bad <= 5)
            printf("# %s, %s (%s): %s: %d, struck %s: %s", c->name, text, strerror(f->error), why,
                   o.rc, o.struck, *o.text ? o.text : "\n");
    }
    return bad;
}

static bool prepare(command *c)
{
    if (c->writes) folder_remove(out_path);
    faulty_run(c->argv, NULL, disk, &c->want);
    output_sha(c->out_sha);
    if (c->writes) folder_read(out_path, &whole);
    return ok(c->want.rc == 0, "%s without a fault: %llu calls, %llu of malloc %s", c->name,
              c->want.calls[FAULT_OPEN] + c->want.calls[FAULT_READ] + c->want.calls[FAULT_CHANGE] +
                  c->want.calls[FAULT_CLOSE] + c->want.calls[FAULT_STAT] +
                  c->want.calls[FAULT_LIST],
              c->want.calls[FAULT_MEMORY], c->want.text);
}

/* With openat2, and where the kernel has none. */
static void both_ways(const command *quantize, const command *verify)
{
    for (int old = 0; old < 2; old++) {
        const char *kernel = old ? "a kernel without openat2" : "this kernel";
        outcome o;
        folder now;
        char link[600];
        if (old) setenv("TOMBAC_OLD_KERNEL", "1", 1);
        folder_remove(out_path);
        faulty_run(quantize->argv, NULL, disk, &o);
        folder_read(out_path, &now);
        ok(o.rc == 0 && folder_same(&now, &whole), "%s: the same bytes", kernel);
        snprintf(link, sizeof link, "%s/config.json", out_path);
        unlink(link);
        ok(!symlink("/proc/self/status", link), "a link out of the folder");
        faulty_run(verify->argv, NULL, disk, &o);
        ok(o.rc == TMB_EDATA && strstr(o.text, "symbolic link"), "%s: a link is not followed",
           kernel);
    }
    unsetenv("TOMBAC_OLD_KERNEL");
}

int main(int argc, char **argv)
{
    make_fast_root();
    out_path = in_root("out");
    const char *source = data_path("arch/mixtral"), *recipe = in_root("recipe.ini");
    write_file(root, "recipe.ini", "[recipe]\nversion = 1\n[rules]\n*experts* = nvfp4\n* = fp8\n");
    const char *const plan[] = {"tombac", "plan", source, "--recipe", recipe, NULL};
    const char *const inspect[] = {"tombac", "inspect", source, NULL};
    const char *const quantize[] = {"tombac", "quantize",     source, "--recipe",  recipe, "-o",
                                    out_path, "--shard-size", "150K", "--threads", "1",    "-q",
                                    NULL};
    const char *const threads[] = {"tombac", "quantize",     source, "--recipe",  recipe, "-o",
                                   out_path, "--shard-size", "150K", "--threads", "3",    "-q",
                                   NULL};
    const char *const verify[] = {"tombac", "verify",    out_path, "--against",
                                  source,   "--threads", "1",      NULL};
    command commands[] = {{"quantize", quantize, true, {0}, ""},
                          {"verify", verify, false, {0}, ""},
                          {"plan", plan, false, {0}, ""},
                          {"inspect", inspect, false, {0}, ""}};
    const size_t n = sizeof faults / sizeof *faults;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        command *c = &commands[i];
        if (argc > 1 && strcmp(argv[1], c->name) != 0) continue;
        if (strcmp(c->name, "verify") == 0) { /* needs an output */
            command make = commands[0];
            prepare(&make);
        }
        if (!prepare(c)) continue;
        for (size_t k = 0; k < n; k++)
            if (faults[k].kind != FAULT_THREAD && c->want.calls[faults[k].kind])
                ok(!strike_all(c, &faults[k]), "%s: %s fails with %s, %s", c->name,
                   fault_words[faults[k].kind], strerror(faults[k].error), faults[k].how);
    }
    command c = {"quantize in 3 threads", threads, true, {0}, ""};
    if (prepare(&c))
        for (size_t k = 0; k < n; k++)
            if (faults[k].kind == FAULT_THREAD)
                ok(!strike_all(&c, &faults[k]), "%s: a thread is refused, %s", c.name,
                   faults[k].how);
    if (argc < 2 && prepare(&commands[0])) both_ways(&commands[0], &commands[1]);
    printf("# %ld runs with a fault\n", struck_runs);
    remove_tree(root);
    return done();
}
