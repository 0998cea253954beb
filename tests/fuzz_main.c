/* fuzz_main.c - runs a fuzz target over files where libFuzzer is not: without arguments over the
 * corpus of the target, $srcdir/tests/data/fuzz/NAME, as a test; else over the files named.  A
 * target that finds something aborts.  tools/fuzz.sh is the real thing. */
#include "config.h"
#include "tests/fuzz.h"
#include "tests/tap.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    static uint8_t data[1 << 20];
    if (!f) return 0;
    size_t n = fread(data, 1, sizeof data, f);
    fclose(f);
    uint8_t *copy = malloc(n ? n : 1); /* of its own size, so that a sanitizer sees its end */
    if (!copy) return 0;
    memcpy(copy, data, n);
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        for (int i = 1; i < argc; i++)
            ok(replay(argv[i]), "%s", argv[i]);
        return done();
    }
    const char *srcdir = getenv("srcdir"), *name = strstr(argv[0], "fuzz_");
    char folder[1024], path[2048];
    if (!name) return 1;
    snprintf(folder, sizeof folder, "%s/tests/data/fuzz/%.*s", srcdir ? srcdir : ".",
             (int)strcspn(name + 5, "."), name + 5);
    DIR *dir = opendir(folder);
    if (!ok(dir != NULL, "the corpus %s is there", folder)) return done();
    int n = 0, good = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        n++;
        good += replay(path);
    }
    closedir(dir);
    ok(n > 0 && good == n, "%d inputs of the corpus do no harm", n);
    return done();
}
