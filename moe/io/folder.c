/* folder.c - a folder's names, and a helpful sentence for each way in which it is the wrong one. */
#include "config.h"
#include "moe/io/folder.h"

#include "moe/io/calls.h"
#include "moe/io/index.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), tail = strlen(ending);
    return n >= tail && strcmp(name + n - tail, ending) == 0;
}

/* "org/name", as the hub writes it. */
static bool looks_like_hub_name(const char *path)
{
    const char *slash = strchr(path, '/');
    return slash && slash > path && slash[1] && !strchr(slash + 1, '/') && path[0] != '.' &&
           path[0] != '~';
}

static tmb_status fail_open(const char *path, tmb_err *err)
{
    struct stat st;
    if (!*path)
        return tmb_fail(err, TMB_ENOINPUT, "an empty path; give the folder of a checkpoint");
    if (errno == ENOENT && looks_like_hub_name(path))
        return tmb_fail(err, TMB_ENOINPUT,
                        "%s: no such folder; if this is a name on the hub, fetch it first: "
                        "hf download %s --local-dir FOLDER",
                        path, path);
    if (errno == ENOENT)
        return tmb_fail(err, TMB_ENOINPUT, "%s: no such folder; give the folder of a checkpoint",
                        path);
    if (errno == ENOTDIR && stat(path, &st) == 0 && S_ISREG(st.st_mode))
        return tmb_fail(err, TMB_ENOINPUT, "%s: is a file; give the folder that holds it", path);
    if (errno == ENOTDIR || errno == ENXIO)
        return tmb_fail(err, TMB_ENOINPUT, "%s: is no folder; give the folder of a checkpoint",
                        path);
    return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open", path);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static tmb_status list(tmb_folder *f, tmb_arena *arena, tmb_err *err)
{
    size_t room = 0, n = 0;
    const char **names = NULL;
    int fd = tmb_openat(f->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    tmb_status status = TMB_OK;
    if (!dir) {
        status = tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot list", f->path);
        if (fd >= 0) close(fd);
        return status;
    }
    struct dirent *entry;
    while ((errno = 0, entry = readdir(dir))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (n == room) { /* the arena takes doubles: the old half is given back with it */
            const char **more =
                tmb_arena_alloc(arena, (room = room ? room * 2 : 64) * sizeof *more);
            if (more && n) memcpy(more, names, n * sizeof *more);
            names = more;
        }
        const char *name =
            names ? tmb_arena_text(arena, entry->d_name, strlen(entry->d_name)) : NULL;
        if (!name) {
            status = tmb_fail_memory(err, room * sizeof *names, "the names of a folder");
            goto out;
        }
        names[n++] = name;
    }
    if (errno) status = tmb_fail_errno(err, TMB_EIO, "%s: cannot list", f->path);
    if (n) qsort(names, n, sizeof *names, by_text);
    f->names = names;
    f->n_names = n;
out:
    closedir(dir);
    return status;
}

tmb_status tmb_folder_open(tmb_folder *out, const char *path, tmb_arena *arena, tmb_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    *out = (tmb_folder){.dirfd = -1, .path = tmb_arena_text(arena, path, n)};
    if (!out->path) return tmb_fail_memory(err, n, "a path");
    out->dirfd =
        tmb_openat(AT_FDCWD, out->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK, 0);
    if (out->dirfd < 0) return fail_open(out->path, err);
    return list(out, arena, err);
}

bool tmb_folder_has(const tmb_folder *f, const char *name)
{
    return f->n_names && bsearch(&name, f->names, f->n_names, sizeof *f->names, by_text);
}

/* No .safetensors here: what is, then? */
static tmb_status fail_empty(const tmb_folder *f, tmb_err *err)
{
    for (size_t i = 0; i < f->n_names; i++) {
        const char *name = f->names[i];
        if (ends_with(name, ".gguf"))
            return tmb_fail(
                err, TMB_ENOINPUT,
                "%s: holds GGUF (%s), which is not read; fetch the safetensors checkpoint "
                "it was made from",
                f->path, name);
        if ((ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth")) &&
            strcmp(name, "training_args.bin") != 0)
            return tmb_fail(
                err, TMB_ENOINPUT,
                "%s: holds pickled weights (%s), which are not read; save them as safetensors "
                "first (transformers: from_pretrained, then save_pretrained)",
                f->path, name);
    }
    if (tmb_folder_has(f, "snapshots") && tmb_folder_has(f, "blobs"))
        return tmb_fail(err, TMB_ENOINPUT,
                        "%s: is a whole repository of the hub cache; give %s/snapshots/REVISION",
                        f->path, f->path);
    return tmb_fail(err, TMB_ENOINPUT,
                    "%s: no .safetensors file in this folder; give the folder of a checkpoint",
                    f->path);
}

/* Where k of STEM-k-of-N.safetensors begins and ends. */
static bool set_number(const char *name, size_t *begin, size_t *end)
{
    const char *of = strstr(name, "-of-");
    if (!of || !ends_with(name, ".safetensors")) return false;
    const char *digits = of;
    while (digits > name && isdigit((unsigned char)digits[-1]))
        digits--;
    *begin = (size_t)(digits - name);
    *end = (size_t)(of - name);
    return digits < of && isdigit((unsigned char)of[4]);
}

bool tmb_same_set(const char *a, const char *b)
{
    size_t a_begin, a_end, b_begin, b_end;
    return set_number(a, &a_begin, &a_end) && set_number(b, &b_begin, &b_end) &&
           a_begin == b_begin && memcmp(a, b, a_begin) == 0 && strcmp(a + a_end, b + b_end) == 0;
}

tmb_status tmb_folder_single(const tmb_folder *f, const char **out, tmb_err *err)
{
    const char *only = NULL;
    size_t n = 0, begin, end;
    for (size_t i = 0; i < f->n_names; i++) {
        if (!ends_with(f->names[i], ".safetensors")) continue;
        only = f->names[i];
        n++;
    }
    if (tmb_folder_has(f, "model.safetensors")) {
        *out = "model.safetensors";
        return TMB_OK;
    }
    if (n == 0) return fail_empty(f, err);
    if (n > 1)
        return tmb_fail(err, TMB_ENOINPUT,
                        "%s: %zu .safetensors files and no " TMB_INDEX_NAME
                        "; fetch the index, or leave "
                        "one file alone in the folder",
                        f->path, n);
    if (set_number(only, &begin, &end) && strtoull(only + end + 4, NULL, 10) != 1)
        return tmb_fail(err, TMB_ENOINPUT,
                        "%s: %s is one of several shards, and there is no " TMB_INDEX_NAME
                        "; fetch the "
                        "rest of the checkpoint",
                        f->path, only);
    *out = only;
    return TMB_OK;
}

bool tmb_is_carried(const char *name)
{
    static const char *const weights[] = {".safetensors", ".bin", ".pt",     ".pth",
                                          ".gguf",        ".h5",  ".msgpack"};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        char index[32] = "";
        strcat(strcat(index, weights[i]), ".index.json");
        if (ends_with(name, weights[i]) || ends_with(name, index)) return false;
    }
    return strncmp(name, ".tmp-", 5) != 0; /* what a killed run left */
}
