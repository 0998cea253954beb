/* What `diagnose` says of checkpoints with one planted fault each, and of changes that are none:
 * the layer, the part and the expert must be named, and nothing else.
 *
 *   test_planted [CKPT DATA]    of another checkpoint; DATA is uint16 ids (.bin)
 *
 * `make check` takes a sample of the faults, make check-long all; and then each once more under a
 * recipe that quantizes everything else, where the fault must be named among the formats. */
#include "config.h"
#include "moe/io/json.h"
#include "tests/plant_faults.h"
#include "tests/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

typedef struct expectation {
    const char *words[5]; /* of the fault */
    const char *role;     /* that must be named first; NULL: nothing may be named */
    bool layer, expert;   /* words[1], words[2] must be named too */
    bool routing, output; /* on which scales it must be found; on the others it may */
    bool sample;          /* of make check */
    bool under;           /* seen under quantization too */
} expectation;

/* L, E, A and B stand for a layer, an expert and two of them. */
static const expectation all[] = {
    {{"identical"}, NULL, 0, 0, 0, 0, false, false},
    {{"rescaled-norm", "L"}, NULL, 0, 0, 0, 0, false, false},
    {{"rescaled-experts", "L"}, NULL, 0, 0, 0, 0, false, false},
    {{"router", "L", "nvfp4"}, "router", true, false, true, false, true, true},
    {{"attention", "L", "nvfp4"}, "attention", true, false, true, false, false, false},
    {{"scaled", "L", "E", "4"}, "expert", true, true, false, true, false, true},
    {{"noise", "L", "E", "1"}, "expert", true, true, false, true, false, true},
    {{"dead", "L", "E"}, "router", true, true, true, false, false, true},
    {{"ties", "L", "A", "B"}, "router", true, false, true, false, false, true},
};

typedef struct place {
    const char *ckpt, *data, *work;
    char layer[12], expert[12], a[12], b[12];
} place;

static int run(const char *const *argv)
{
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY);
        dup2(null, 1);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static const char *word_of(const place *p, const char *word)
{
    if (!word) return NULL;
    return !strcmp(word, "L")   ? p->layer
           : !strcmp(word, "E") ? p->expert
           : !strcmp(word, "A") ? p->a
           : !strcmp(word, "B") ? p->b
                                : word;
}

static bool holds(const tmb_json *list, const char *number)
{
    int64_t value;
    for (size_t i = 0; i < tmb_json_size(list); i++)
        if (tmb_json_integer(tmb_json_at(list, i), &value) && value == atoi(number)) return true;
    return false;
}

static void print_cause(const char *scale, const tmb_json *c)
{
    double effect = 0;
    int64_t value;
    const tmb_json *layers = tmb_json_get(c, "layers"), *experts = tmb_json_get(c, "experts");
    tmb_json_number(tmb_json_get(c, "effect"), &effect);
    printf("#   %s: %s, @%s, layers", scale, tmb_json_string(tmb_json_get(c, "cause")),
           tmb_json_string(tmb_json_get(c, "role")));
    for (size_t i = 0; i < tmb_json_size(layers); i++)
        if (tmb_json_integer(tmb_json_at(layers, i), &value)) printf(" %d", (int)value);
    printf(", experts");
    for (size_t i = 0; i < tmb_json_size(experts); i++)
        if (tmb_json_integer(tmb_json_at(experts, i), &value)) printf(" %d", (int)value);
    printf(", effect %.3g\n", effect);
}

/* Is this cause the planted one, and that alone? */
static bool is_it(const tmb_json *c, const expectation *x, const place *p)
{
    const tmb_json *layers = tmb_json_get(c, "layers");
    const char *role = tmb_json_string(tmb_json_get(c, "role"));
    if (!x->role || !role || strcmp(role, x->role) != 0) return false;
    if (x->layer && (tmb_json_size(layers) != 1 || !holds(layers, word_of(p, x->words[1]))))
        return false;
    return !x->expert || holds(tmb_json_get(c, "experts"), word_of(p, x->words[2]));
}

/* Every cause of the scale is the planted one; *found: there is one. */
static bool only_it(const tmb_json *report, const char *scale, const expectation *x, const place *p,
                    bool *found)
{
    char key[32];
    snprintf(key, sizeof key, "verdict.%s", scale);
    const tmb_json *list = tmb_json_path(report, key);
    bool good = tmb_json_is_array(list);
    *found = false;
    for (size_t i = 0; i < tmb_json_size(list); i++) {
        const tmb_json *c = tmb_json_at(list, i);
        print_cause(scale, c);
        bool it = is_it(c, x, p);
        *found |= it;
        good &= it;
    }
    return good;
}

/* Whether it is told as a change whose effect stays below the noise. */
static bool is_quiet(const tmb_json *report, const place *p)
{
    const tmb_json *list = tmb_json_get(report, "harmless");
    for (size_t i = 0; i < tmb_json_size(list); i++) {
        int64_t layer;
        const tmb_json *h = tmb_json_at(list, i);
        const char *kind = tmb_json_string(tmb_json_get(h, "kind"));
        if (kind && !strcmp(kind, "below-noise") &&
            tmb_json_integer(tmb_json_get(h, "layer"), &layer) && layer == atoi(p->layer))
            return true;
    }
    return false;
}

/* The model of the fault, under a recipe when told, in p->work/model. */
static bool make(const expectation *x, const place *p, bool under, char *name, size_t size)
{
    char model[512], source[512];
    const char *words[5];
    int n = 0;
    tmb_err err = {0};
    *name = 0;
    for (; n < 5 && x->words[n]; n++) {
        words[n] = word_of(p, x->words[n]);
        snprintf(name + strlen(name), size - strlen(name), "%s%s", n ? " " : "", words[n]);
    }
    if (under) snprintf(name + strlen(name), size - strlen(name), " under a recipe");
    if (!strcmp(words[0], "dead")) words[n++] = p->data;
    snprintf(model, sizeof model, "%s/model", p->work);
    snprintf(source, sizeof source, "%s/source", p->work);
    bool good = plant_fault(p->ckpt, under ? source : model, n, words, &err);
    if (good && under) {
        char recipe[600];
        const char *srcdir = getenv("srcdir");
        snprintf(recipe, sizeof recipe, "%s/recipes/nvfp4-experts.ini", srcdir ? srcdir : ".");
        const char *argv[] = {
            getenv("TOMBAC"), "quantize", source, "--recipe", recipe, "-o", model, "-q", NULL};
        good = run(argv) == 0;
        edit_remove_dir(source);
    }
    return ok(good, "%s: planted %s", name, err.message);
}

static void judge(const expectation *x, const place *p, bool under)
{
    char model[512], out[512], name[128] = "", path[600];
    tmb_err err = {0};
    if (!make(x, p, under, name, sizeof name)) return;
    snprintf(model, sizeof model, "%s/model", p->work);
    snprintf(out, sizeof out, "%s/report", p->work);
    const char *samples = getenv("TOMBAC_LONG") ? "32" : "4";
    const char *argv[] = {getenv("TOMBAC"), "diagnose", p->ckpt, model, "--data", p->data,
                          "--samples",      samples,    "-o",    out,   "-q",     NULL};
    tmb_json *report = NULL;
    int status = run(argv);
    snprintf(path, sizeof path, "%s/report.json", out);
    bool read = status == 0 && !tmb_json_load(&report, AT_FDCWD, path, 1 << 26, true, &err);
    if (ok(read, "%s: diagnosed (%d) %s", name, status, err.message)) {
        bool routing, output;
        bool pure = only_it(report, "routing", x, p, &routing);
        pure &= only_it(report, "output", x, p, &output);
        const tmb_json *lines = tmb_json_path(report, "verdict.lines");
        for (size_t i = 0; i < tmb_json_size(lines); i++)
            printf("#   \"%s\"\n", tmb_json_string(tmb_json_at(lines, i)));
        if (!under) ok(pure, "%s: nothing else is named", name);
        if (x->routing) ok(routing, "%s: named on the routing scale", name);
        if (x->output)
            ok(output || is_quiet(report, p),
               "%s: named on the output scale, or as below the noise", name);
    }
    tmb_json_free(report);
    edit_remove_dir(model);
    edit_remove_dir(out);
}

int main(int argc, char **argv)
{
    static char ckpt[600], data[600], work[] = "/tmp/tombac-planted-XXXXXX";
    place p = {.ckpt = ckpt, .data = data, .work = mkdtemp(work)};
    const char *srcdir = getenv("srcdir");
    snprintf(ckpt, sizeof ckpt, "%s/tests/data/tinymoe/a", srcdir ? srcdir : ".");
    snprintf(data, sizeof data, "%s/tests/data/tinymoe/heldout_math.bin", srcdir ? srcdir : ".");
    if (argc > 2) {
        p.ckpt = argv[1];
        p.data = argv[2];
    }
    if (!p.work || !getenv("TOMBAC")) skip_all("no folder to work in, or no TOMBAC");
    strcpy(p.layer, argc > 3 ? argv[3] : "2");
    strcpy(p.expert, argc > 4 ? argv[4] : "5");
    strcpy(p.a, "3");
    strcpy(p.b, "7");
    bool every = getenv("TOMBAC_LONG") || argc > 2;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (every || all[i].sample) judge(&all[i], &p, false);
    for (size_t i = 0; every && i < sizeof all / sizeof *all; i++)
        if (all[i].under) judge(&all[i], &p, true);
    rmdir(work);
    return done();
}
