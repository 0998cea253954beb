/* resume.c - the folder where a calibration that was stopped goes on. */
#include "config.h"
#include "moe/calib/resume.h"

#include "moe/calib/hidden.h"
#include "moe/io/calls.h"
#include "moe/io/files.h"
#include "moe/io/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char state_name[] = "state.json", lock_name[] = "lock";
enum { STATE_VERSION = 1, STATE_BYTES = 1 << 16, ROUNDS_MAX = 4096, LAYERS_MAX = 1 << 16 };

/* --- the lock ------------------------------------------------------------------------------- */

static tmb_status lock(tmb_calib_folder *f, tmb_err *err)
{
    char text[32] = "", shown[PATH_MAX];
    f->lockfd = tmb_open_beneath(f->dirfd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (f->lockfd < 0)
        return tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot make it", f->path, lock_name);
    if (tmb_flock(f->lockfd, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK)
            return tmb_fail_errno(err, TMB_ECREATE, "%s/%s: cannot lock it", f->path, lock_name);
        ssize_t n = pread(f->lockfd, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = 0;
        text[strspn(text, "0123456789")] = 0;
        return tmb_fail(err, TMB_ECREATE,
                        "%s: process %s is at work on it; wait for it, or stop it first", f->path,
                        *text ? text : "?");
    }
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (tmb_ftruncate(f->lockfd, 0))
        return tmb_fail_errno(err, TMB_EIO, "%s/%s: cannot write", f->path, lock_name);
    snprintf(shown, sizeof shown, "%s/%s", f->path, lock_name);
    return tmb_file_pwrite(f->lockfd, text, (size_t)n, 0, shown, err);
}

/* --- the state ------------------------------------------------------------------------------ */

static bool count(const tmb_json *object, const char *key, int64_t most, uint32_t *out)
{
    int64_t n;
    if (!tmb_json_integer(tmb_json_get(object, key), &n) || n < 0 || n > most) return false;
    *out = (uint32_t)n;
    return true;
}

/* NULL: nothing differs. */
static const char *difference(const tmb_json *file, const tmb_calib_identity *id)
{
    const struct {
        const char *key, *want, *what;
    } fields[] = {
        {"version", id->version, "the version of tombac"},
        {"checkpoint", id->checkpoint, "the checkpoint"},
        {"data", id->data, "the data"},
        {"settings", id->settings, "the settings"},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const char *have = tmb_json_string(tmb_json_get(file, fields[i].key));
        if (!have || strcmp(have, fields[i].want) != 0) return fields[i].what;
    }
    return NULL;
}

static tmb_status read_state(const tmb_calib_folder *f, const tmb_calib_identity *id,
                             tmb_calib_state *state, tmb_err *err)
{
    tmb_json *file = NULL;
    tmb_err why = {0};
    tmb_status status = tmb_json_load(&file, f->dirfd, state_name, STATE_BYTES, false, &why);
    if (status && status != TMB_EDATA) return tmb_fail(err, status, "%s: %s", f->path, why.message);
    const char *what = difference(file, id);
    status = TMB_OK;
    uint32_t version = 0;
    if (!count(file, "tombac_calibration", STATE_VERSION, &version) || version != STATE_VERSION ||
        !count(file, "round", ROUNDS_MAX, &state->round) ||
        !count(file, "layers", LAYERS_MAX, &state->layers))
        status = tmb_fail(err, TMB_EDATA,
                          "%s/%s: does not say how far a run came; add --restart to begin again",
                          f->path, state_name);
    else if (what)
        status = tmb_fail(err, TMB_EUSAGE,
                          "%s: holds an unfinished run that differs in %s; give the same command "
                          "again, or add --restart to discard it",
                          f->path, what);
    state->embedded = tmb_json_bool(tmb_json_get(file, "embedded"), false);
    tmb_json_free(file);
    return status;
}

tmb_status tmb_calib_folder_save(const tmb_calib_folder *f, const tmb_calib_identity *id,
                                 const tmb_calib_state *state, tmb_err *err)
{
    tmb_json *o = tmb_json_new_object();
    bool fine = o && tmb_json_set(o, "tombac_calibration", tmb_json_new_integer(STATE_VERSION)) &&
                tmb_json_set(o, "version", tmb_json_new_string(id->version)) &&
                tmb_json_set(o, "checkpoint", tmb_json_new_string(id->checkpoint)) &&
                tmb_json_set(o, "data", tmb_json_new_string(id->data)) &&
                tmb_json_set(o, "settings", tmb_json_new_string(id->settings)) &&
                tmb_json_set(o, "round", tmb_json_new_integer(state->round)) &&
                tmb_json_set(o, "layers", tmb_json_new_integer(state->layers)) &&
                tmb_json_set(o, "embedded", tmb_json_new_bool(state->embedded));
    char *text = fine ? tmb_json_dump(o, 2) : NULL;
    tmb_status status =
        text ? tmb_file_publish(f->dirfd, f->path, state_name, text, strlen(text), err)
             : tmb_fail_memory(err, 0, "the state of a run");
    free(text);
    tmb_json_free(o);
    return status;
}

/* --- the folder ----------------------------------------------------------------------------- */

static tmb_status open_folder(tmb_calib_folder *f, const char *path, tmb_err *err)
{
    f->lockfd = -1;
    f->dirfd = tmb_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    if (f->dirfd < 0) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot open", path);
    f->path = strdup(path);
    return f->path ? TMB_OK : tmb_fail_memory(err, strlen(path), "a path");
}

/* A file that such a run makes, complete or not. */
static bool ours(const char *name)
{
    unsigned round, layer;
    int end = 0;
    if (strncmp(name, ".tmp-", 5) == 0) name += 5;
    if (strcmp(name, state_name) == 0 || strcmp(name, lock_name) == 0 ||
        strcmp(name, "hidden-0") == 0 || strcmp(name, "hidden-1") == 0)
        return true;
    if (sscanf(name, "round-%u-layer-%u.h5%n", &round, &layer, &end) == 2 && end) return true;
    return sscanf(name, "round-%u.h5%n", &round, &end) == 1 && end;
}

/* The state goes first, and while it stays so does the rest: it never speaks of what is gone. */
static void empty(const tmb_calib_folder *f, bool lock_too)
{
    if (unlinkat(f->dirfd, state_name, 0) && errno != ENOENT) return;
    int fd = tmb_openat(f->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0) close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(dir));)
        if (ours(e->d_name) && (lock_too || strcmp(e->d_name, lock_name) != 0))
            unlinkat(f->dirfd, e->d_name, 0);
    closedir(dir);
}

tmb_status tmb_calib_folder_open(tmb_calib_folder *f, const char *path,
                                 const tmb_calib_identity *identity, bool restart,
                                 tmb_calib_state *state, tmb_err *err)
{
    bool there = false;
    *state = (tmb_calib_state){0};
    f->dirfd = f->lockfd = -1;
    if (mkdir(path, 0777) && errno != EEXIST)
        return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot make the folder", path);
    TRY(open_folder(f, path, err));
    TRY(lock(f, err));
    if (restart) empty(f, false);
    TRY(tmb_file_exists(&there, f->dirfd, state_name, err));
    if (there) TRY(read_state(f, identity, state, err));
    f->resumed = there && (state->round || state->layers);
    return tmb_calib_folder_save(f, identity, state, err);
}

tmb_status tmb_calib_folder_join(tmb_calib_folder *f, const char *path, tmb_err *err)
{
    return open_folder(f, path, err);
}

void tmb_calib_folder_close(tmb_calib_folder *f)
{
    if (!f->path) return; /* nothing was opened */
    if (f->lockfd >= 0) close(f->lockfd);
    close(f->dirfd);
    free(f->path);
    *f = (tmb_calib_folder){.dirfd = -1, .lockfd = -1};
}

void tmb_calib_folder_remove(tmb_calib_folder *f)
{
    empty(f, true);
    rmdir(f->path);
}

char *tmb_calib_part(const tmb_calib_folder *f, uint32_t round, int layer)
{
    char *path = NULL;
    int n = layer < 0 ? asprintf(&path, "%s/round-%03u.h5", f->path, round)
                      : asprintf(&path, "%s/round-%03u-layer-%03d.h5", f->path, round, layer);
    return n < 0 ? NULL : path;
}
