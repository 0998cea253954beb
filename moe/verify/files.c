/* files.c - the checksums of tombac.json against the folder, and of tombac.json against itself. The
 * file is as hostile as any: its names must be plain base names, and are opened as strangers'. */
#include "config.h"
#include "moe/io/files.h"
#include "moe/verify/verify_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char summary_name[] = "tombac.json", journal_name[] = "tombac.journal";
enum { SUMMARY_MAX = 256 << 20 };

typedef enum tmb_file_state {
    FILE_SAME,
    FILE_GONE,
    FILE_SIZE,
    FILE_BYTES,
    FILE_BAD_NAME
} tmb_file_state;

typedef struct tmb_known_file {
    const char *name, *sha256;
    int64_t bytes;
    tmb_file_state state;
} tmb_known_file;

static tmb_status check_file(const tmb_verifier *v, tmb_known_file *f, tmb_err *err)
{
    f->state = FILE_BAD_NAME;
    if (!tmb_is_base_name(f->name)) return TMB_OK;
    f->state = FILE_GONE;
    struct stat st;
    int fd;
    char hex[TMB_SHA256_HEX];
    tmb_err why;
    tmb_status status = tmb_file_open(&fd, &st, v->ckpt->dirfd, f->name, f->name, &why);
    bool gone = status == TMB_ENOINPUT && faccessat(v->ckpt->dirfd, f->name, F_OK, 0) != 0 &&
                errno == ENOENT;
    if (gone || status == TMB_EDATA) return TMB_OK; /* EDATA: a link out, or no regular file */
    if (status) {
        if (err) *err = why;
        return status;
    }
    f->state = FILE_SIZE;
    if (st.st_size == f->bytes) {
        status = tmb_sha256_file(fd, f->name, hex, err);
        f->state = !status && f->sha256 && strcmp(hex, f->sha256) == 0 ? FILE_SAME : FILE_BYTES;
    }
    close(fd);
    return status;
}

static void check_some(void *arg)
{
    tmb_loop *loop = arg;
    tmb_known_file *list = loop->ctx;
    tmb_err err;
    for (uint32_t i; tmb_next(loop, &i);)
        if (check_file(loop->v, &list[i], &err)) tmb_loop_fail(loop, &err);
}

static void report_file(tmb_verifier *v, const tmb_known_file *f)
{
    switch (f->state) {
    case FILE_SAME:
        return;
    case FILE_GONE:
        tmb_find(v, TMB_CHECK_FILE_MISSING, TMB_ERROR, 0, f->name,
                 "tombac.json lists this file and it is not here: the copy is incomplete; copy it "
                 "again");
        return;
    case FILE_BAD_NAME:
        tmb_find(v, TMB_CHECK_FILE_MISSING, TMB_ERROR, 1, f->name,
                 "tombac.json lists a name that is no plain file name: the file was tampered with; "
                 "quantize again");
        return;
    case FILE_SIZE:
    case FILE_BYTES:
        tmb_find(v, TMB_CHECK_FILE_CHANGED, TMB_ERROR, f->state, f->name,
                 "its %s differs from tombac.json's: it was damaged or changed since it was "
                 "written; copy it again",
                 f->state == FILE_SIZE ? "size" : "SHA-256");
        return;
    }
}

static void report_unknown(tmb_verifier *v, const tmb_nameset *known)
{
    tmb_ran(v, TMB_CHECK_FILE_UNKNOWN);
    for (size_t i = 0; i < v->ckpt->n_other_files + v->ckpt->n_shards; i++) {
        const char *name = i < v->ckpt->n_shards ? v->ckpt->shards[i].name
                                                 : v->ckpt->other_files[i - v->ckpt->n_shards];
        if (strcmp(name, summary_name) == 0 || tmb_nameset_find(known, name) != TMB_NO_NAME)
            continue;
        tmb_find(v, TMB_CHECK_FILE_UNKNOWN, TMB_WARNING, 0, name,
                 "the file is not in tombac.json: it was added after quantization");
    }
}

static tmb_status check_all(tmb_verifier *v, const tmb_json *files, tmb_err *err)
{
    size_t n = 0, room = tmb_json_size(files);
    tmb_known_file *list = tmb_arena_alloc(&v->scratch, (room + 1) * sizeof *list);
    tmb_nameset known = {0};
    tmb_status status = TMB_OK;
    void *it = NULL;
    const char *name;
    const tmb_json *entry;
    if (!list) return tmb_fail_memory(err, room * sizeof *list, "the list of files");
    while (n < room && tmb_json_next(files, &it, &name, &entry)) {
        list[n++] = (tmb_known_file){.name = name,
                                     .sha256 = tmb_json_string(tmb_json_get(entry, "sha256")),
                                     .bytes = tmb_json_int_or(entry, "bytes", -1)};
        if (!tmb_nameset_add(&known, name, 0)) v->no_memory = true;
    }
    tmb_nameset_sort(&known);
    tmb_loop loop = {.v = v, .n = (uint32_t)n, .ctx = list};
    status = tmb_loop_run(&loop, check_some, err);
    tmb_ran(v, TMB_CHECK_FILE_MISSING);
    if (!n)
        tmb_find(v, TMB_CHECK_FILE_CHANGED, TMB_ERROR, 8, summary_name,
                 "it lists no files: it was damaged or tampered with; quantize again");
    for (size_t i = 0; i < n; i++)
        report_file(v, &list[i]);
    report_unknown(v, &known);
    v->report->files_known = v->report->files_checked = (uint32_t)n;
    tmb_nameset_free(&known);
    return status;
}

/* Its last member is the SHA-256 of every byte before that member, so that damage to the list is
 * no damage to what it lists. */
static tmb_status check_itself(tmb_verifier *v, const char *text, size_t n, tmb_err *err)
{
    static const char key[] = "  \"sha256\": \"", end[] = "\"\n}\n";
    enum { KEY = sizeof key - 1, END = sizeof end - 1, TAIL = KEY + TMB_SHA256_HEX - 1 + END };
    char hex[TMB_SHA256_HEX];
    const char *tail = n >= TAIL ? text + n - TAIL : NULL;
    bool same = tail && memcmp(tail, key, KEY) == 0 && memcmp(text + n - END, end, END) == 0;
    tmb_ran(v, TMB_CHECK_FILE_CHANGED);
    if (same) {
        TRY(tmb_sha256(text, n - TAIL, hex, err));
        same = memcmp(tail + KEY, hex, TMB_SHA256_HEX - 1) == 0;
    }
    if (!same)
        tmb_find(v, TMB_CHECK_FILE_CHANGED, TMB_ERROR, 9, summary_name,
                 "its own SHA-256 differs: it was damaged or changed since it was written; copy it "
                 "again");
    return TMB_OK;
}

tmb_status tmb_check_summary(tmb_verifier *v, const char *text, size_t n, tmb_err *err)
{
    tmb_json *summary = NULL;
    TRY(tmb_json_parse(&summary, text, n, summary_name, false, err));
    tmb_status status = check_itself(v, text, n, err);
    if (!status) status = check_all(v, tmb_json_get(summary, "files"), err);
    tmb_json_free(summary);
    return status;
}

tmb_status tmb_check_files(tmb_verifier *v, tmb_err *err)
{
    char *text = NULL;
    size_t n;
    bool there = false;
    TRY(tmb_file_exists(&there, v->ckpt->dirfd, journal_name, err));
    if (there)
        tmb_find(v, TMB_CHECK_FILE_MISSING, TMB_ERROR, 2, journal_name,
                 "the run that makes this folder has not ended: run the same command again, it "
                 "goes on");
    there = false;
    if (v->options->checksums) TRY(tmb_file_exists(&there, v->ckpt->dirfd, summary_name, err));
    if (!there) {
        if (v->config.quant || v->config.hf)
            tmb_find(v, TMB_CHECK_NO_CHECKSUMS, TMB_NOTE, 0, v->ckpt->path,
                     "bytes were compared with no checksum: a changed value that is still finite "
                     "and in range stays unseen; compare with the source: --against CKPT");
        return TMB_OK;
    }
    TRY(tmb_file_load(&text, &n, v->ckpt->dirfd, summary_name, SUMMARY_MAX, err));
    tmb_status status = tmb_check_summary(v, text, n, err);
    free(text);
    return status;
}
