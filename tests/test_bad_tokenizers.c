/* Every file under tests/malformed/tokenizers/ is refused with exactly the message and status that
 * stand in the file `expected` beside them: STATUS FILE: message. */
#include "config.h"
#include "moe/io/files.h"
#include "moe/tokens/tokenizer.h"
#include "tests/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One line of `expected`. */
static void check(const char *line)
{
    int status, at;
    char file[256];
    tmb_err err = {0};
    tmb_tokenizer *t = NULL;
    if (sscanf(line, "%d %n", &status, &at) != 1) {
        ok(0, "a line of `expected` reads STATUS MESSAGE: %s", line);
        return;
    }
    const char *want = line + at;
    snprintf(file, sizeof file, "%.*s.json", (int)strcspn(want, "."), want);
    tmb_status got = tmb_tokenizer_load(&t, file, &err);
    int pass = (int)got == status && strcmp(err.message, want) == 0 && !t;
    ok(pass, "%s", file);
    if (!pass) printf("# want %d %s\n# got  %d %s\n", status, want, (int)got, err.message);
    tmb_tokenizer_close(t);
}

/* A case that nobody expects anything of would be a check that cannot fail. */
static void check_listed(const char *expected)
{
    DIR *dir = opendir(".");
    int missing = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        char key[300];
        if (n < 5 || strcmp(e->d_name + n - 5, ".json") != 0) continue;
        snprintf(key, sizeof key, " %.*s.json", (int)n - 5, e->d_name);
        if (strstr(expected, key)) continue;
        missing++;
        printf("# %s is not in `expected`\n", e->d_name);
    }
    if (dir) closedir(dir);
    ok(dir && !missing, "every file of the folder stands in `expected`");
}

int main(void)
{
    const char *srcdir = getenv("srcdir");
    char folder[4096];
    char *expected = NULL;
    size_t n;
    tmb_err err = {0};
    snprintf(folder, sizeof folder, "%s/tests/malformed/tokenizers", srcdir ? srcdir : ".");
    if (chdir(folder) || tmb_file_load(&expected, &n, AT_FDCWD, "expected", 1 << 20, &err)) {
        ok(0, "cannot read %s/expected", folder);
        return done();
    }
    check_listed(expected);
    for (char *line = strtok(expected, "\n"); line; line = strtok(NULL, "\n"))
        check(line);
    free(expected);
    return done();
}
