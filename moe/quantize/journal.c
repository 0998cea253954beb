#include "config.h"
#include "moe/quantize/journal.h"

#include "moe/io/calls.h"
#include "moe/quantize/text.h"
#include "moe/quantize/work.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char family[] = "tombac journal ";
static const char magic[] = "tombac journal 2 ";

bool tmb_plain_name(const char *name)
{
    if (!*name || *name == '.' || strlen(name) > NAME_MAX - (sizeof ".tmp-" - 1)) return false;
    for (; *name; name++)
        if (*name == '/' || (unsigned char)*name < 0x20 || *name == 0x7f) return false;
    return true;
}

/* ---- identity ---------------------------------------------------------------------------------
 */

tmb_status tmb_journal_identity(const tmb_plan *plan, char **out, tmb_err *err)
{
    const tmb_checkpoint *ckpt = plan->job.model->ckpt;
    tmb_text t = {0};
    char *text = NULL, source[TMB_SHA256_HEX];
    size_t n = 0;
    for (size_t i = 0; i < ckpt->n_shards; i++) {
        const struct stat *st = &ckpt->shards[i].stat;
        tmb_text_printf(&t, "%s %llu %lld.%09ld\n", ckpt->shards[i].name,
                        (unsigned long long)ckpt->shards[i].file_bytes,
                        (long long)st->st_mtim.tv_sec, (long)st->st_mtim.tv_nsec);
    }
    /* what is carried over counts too, and the config that was read */
    for (uint32_t i = 0; i < plan->n_others; i++) {
        struct stat st;
        if (plan->others[i].kind != TMB_OTHER_CARRIED) continue;
        if (fstatat(ckpt->dirfd, plan->others[i].name, &st, 0)) memset(&st, 0, sizeof st);
        tmb_text_printf(&t, "%s %llu %lld.%09ld\n", plan->others[i].name,
                        (unsigned long long)st.st_size, (long long)st.st_mtim.tv_sec,
                        (long)st.st_mtim.tv_nsec);
    }
    tmb_text_puts(&t, plan->config_text);
    TRY(tmb_text_take(&t, &text, &n, "the journal", err));
    tmb_status status = tmb_sha256(text, n, source, err);
    free(text);
    if (status) return status;
    tmb_text_printf(
        &t, "%sversion=%s layout=%s shard_size=%llu copy_code=%d stats=%s recipe=%s source=%s",
        magic, PACKAGE_VERSION, plan->layout->name, (unsigned long long)plan->options.shard_size,
        plan->options.copy_code, plan->job.measured ? plan->job.measured->content : "-",
        plan->resolved_sha256, source);
    return tmb_text_take(&t, out, NULL, "the journal", err);
}

const char *tmb_journal_difference(const char *a, const char *b)
{
    static const char *const keys[][2] = {
        {" version=", "the version of tombac"},
        {" layout=", "the layout"},
        {" shard_size=", "the shard size"},
        {" copy_code=", "--copy-code"},
        {" stats=", "the statistics"},
        {" recipe=", "the recipe"},
        {" source=", "the source"},
    };
    if (strncmp(a, b, sizeof magic - 1) != 0) return keys[0][1]; /* another kind of journal */
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *x = strstr(a, keys[i][0]), *y = strstr(b, keys[i][0]);
        size_t n = strlen(keys[i][0]);
        if (!x || !y) return keys[i][1];
        size_t nx = strcspn(x + n, " "), ny = strcspn(y + n, " ");
        if (nx != ny || memcmp(x + n, y + n, nx) != 0) return keys[i][1];
    }
    return "the command";
}

/* ---- writing ----------------------------------------------------------------------------------
 */

static tmb_status check_of(const char *before, const char *text, char out[TMB_CHECK_HEX + 1],
                           tmb_err *err)
{
    char hex[TMB_SHA256_HEX], *both = NULL;
    size_t n = 0;
    tmb_text t = {0};
    tmb_text_puts(&t, before);
    tmb_text_puts(&t, text);
    TRY(tmb_text_take(&t, &both, &n, "the journal", err));
    tmb_status status = tmb_sha256(both, n, hex, err);
    free(both);
    if (status) return status;
    memcpy(out, hex, TMB_CHECK_HEX);
    out[TMB_CHECK_HEX] = '\0';
    return TMB_OK;
}

tmb_status tmb_journal_add(tmb_journal *j, const char *text, tmb_err *err)
{
    char check[TMB_CHECK_HEX + 1], *line = NULL;
    size_t n = 0;
    tmb_text t = {0};
    TRY(check_of(j->check, text, check, err));
    tmb_text_printf(&t, "%s ", check);
    tmb_text_puts(&t, text);
    tmb_text_puts(&t, "\n");
    TRY(tmb_text_take(&t, &line, &n, "the journal", err));
    tmb_status status = tmb_file_pwrite(j->fd, line, n, j->end, j->path, err);
    free(line);
    if (status) return status;
    if (tmb_fdatasync(j->fd))
        return tmb_fail_errno(err, TMB_EIO, "%s: cannot flush to the disk", j->path);
    j->end += n;
    memcpy(j->check, check, sizeof check);
    return TMB_OK;
}

tmb_status tmb_journal_begin(tmb_journal *j, const char *identity, tmb_err *err)
{
    if (tmb_ftruncate(j->fd, 0)) return tmb_fail_errno(err, TMB_EIO, "%s: cannot empty", j->path);
    j->end = 0;
    j->check[0] = '\0';
    return tmb_journal_add(j, identity, err);
}

tmb_status tmb_journal_add_shard(tmb_journal *j, const tmb_plan *plan, uint32_t file,
                                 const char *sha256, const tmb_row_sums *rows, tmb_err *err)
{
    tmb_text t = {0};
    char *text = NULL;
    tmb_text_printf(
        &t, "shard %u %llu %s", file,
        (unsigned long long)(plan->files[file].header_bytes + plan->files[file].data_bytes),
        sha256);
    for (uint32_t i = 0; i < plan->n_rows; i++)
        if (rows[i].worst != TMB_NONE)
            tmb_text_printf(&t, " %u %u %a %a %a %a %a %a", i, rows[i].worst, rows[i].worst_sqnr_db,
                            rows[i].sums.signal, rows[i].sums.noise, rows[i].sums.dot,
                            rows[i].sums.power, rows[i].sums.max_error);
    TRY(tmb_text_take(&t, &text, NULL, "the journal", err));
    tmb_status status = tmb_journal_add(j, text, err);
    free(text);
    return status;
}

tmb_status tmb_journal_add_part(tmb_journal *j, uint32_t file, uint64_t bytes, const char *sha256,
                                const uint32_t *units, uint32_t n, const tmb_sums *sums,
                                tmb_err *err)
{
    tmb_text t = {0};
    char *text = NULL;
    tmb_text_printf(&t, "part %u %llu %s", file, (unsigned long long)bytes, sha256);
    for (uint32_t i = 0; i < n; i++) {
        const tmb_sums *s = &sums[units[i]];
        tmb_text_printf(&t, " %u %a %a %a %a %a", units[i], s->signal, s->noise, s->dot, s->power,
                        s->max_error);
    }
    TRY(tmb_text_take(&t, &text, NULL, "the journal", err));
    tmb_status status = tmb_journal_add(j, text, err);
    free(text);
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static bool take_number(const char **s, uint64_t limit, uint64_t *out)
{
    if (**s != ' ' || !isdigit((unsigned char)(*s)[1])) return false;
    char *end;
    errno = 0;
    *out = strtoull(*s + 1, &end, 10);
    *s = end;
    return errno == 0 && *out < limit;
}

static bool take_double(const char **s, double *out)
{
    if (**s != ' ' || (*s)[1] == ' ' || (*s)[1] == '\0') return false;
    char *end;
    *out = strtod(*s + 1, &end);
    bool good = end != *s + 1 && !isnan(*out);
    *s = end;
    return good;
}

static bool take_sha256(const char **s, char out[TMB_SHA256_HEX])
{
    if (**s != ' ') return false;
    size_t n = strspn(*s + 1, "0123456789abcdef");
    if (n != TMB_SHA256_HEX - 1) return false;
    memcpy(out, *s + 1, n);
    out[n] = '\0';
    *s += 1 + n;
    return true;
}

static bool take_sums(const char **s, tmb_sums *sums)
{
    return take_double(s, &sums->signal) && take_double(s, &sums->noise) &&
           take_double(s, &sums->dot) && take_double(s, &sums->power) &&
           take_double(s, &sums->max_error);
}

/* " I BYTES SHA ROWS…"; false: not a record that this plan could have written. */
static bool read_shard(tmb_journal *j, const tmb_plan *plan, const char *s)
{
    uint64_t file, bytes, row, worst;
    char sha256[TMB_SHA256_HEX];
    if (!take_number(&s, plan->n_files, &file) || !take_number(&s, UINT64_MAX, &bytes) ||
        bytes != plan->files[file].header_bytes + plan->files[file].data_bytes ||
        !take_sha256(&s, sha256))
        return false;
    tmb_row_sums *rows = &j->rows[file * plan->n_rows];
    for (uint32_t i = 0; i < plan->n_rows; i++)
        rows[i] = (tmb_row_sums){.worst = TMB_NONE};
    while (*s) {
        tmb_row_sums r = {0};
        if (!take_number(&s, plan->n_rows, &row) ||
            !take_number(&s, plan->job.model->n_units, &worst) || plan->row_of[worst] != row ||
            !take_double(&s, &r.worst_sqnr_db) || !take_sums(&s, &r.sums))
            return false;
        r.worst = (uint32_t)worst;
        rows[row] = r;
    }
    memcpy(j->sha256[file], sha256, sizeof sha256);
    j->have[file] = true;
    return true;
}

/* " I BYTES SHA UNITS…" */
static bool read_part(tmb_journal *j, const tmb_plan *plan, const char *s)
{
    uint64_t file, bytes, unit;
    char sha256[TMB_SHA256_HEX];
    if (!take_number(&s, plan->n_files, &file) ||
        !take_number(&s, plan->files[file].header_bytes + plan->files[file].data_bytes, &bytes) ||
        !bytes || bytes % plan->block_bytes || !take_sha256(&s, sha256))
        return false;
    while (*s) {
        tmb_sums sums = {0};
        if (!take_number(&s, plan->job.model->n_units, &unit) ||
            !tmb_measured_in(plan, (uint32_t)unit, (uint32_t)file) || !take_sums(&s, &sums))
            return false;
        j->unit_sums[unit] = sums;
        j->unit_known[unit] = true;
    }
    memcpy(j->part_sha256[file], sha256, sizeof sha256);
    j->part_bytes[file] = bytes;
    return true;
}

static bool read_record(tmb_journal *j, const tmb_plan *plan, const char *text)
{
    if (strncmp(text, "pid ", 4) == 0) return true;
    if (strncmp(text, "shard ", 6) == 0) return !j->ours || read_shard(j, plan, text + 5);
    if (strncmp(text, "part ", 5) == 0) return !j->ours || read_part(j, plan, text + 4);
    if (strncmp(text, "file ", 5) != 0 || !tmb_plain_name(text + 5)) return false;
    char **more = realloc(j->written, (j->n_written + 1) * sizeof *more);
    if (more) j->written = more;
    char *name = more ? strdup(text + 5) : NULL;
    if (name) j->written[j->n_written++] = name;
    return name != NULL;
}

/* Every line up to the first that is cut off, damaged, or no record of ours. */
static tmb_status read_lines(tmb_journal *j, const tmb_plan *plan, const char *identity, char *text,
                             size_t n, tmb_err *err)
{
    for (char *line = text, *end; (end = memchr(line, '\n', n - (size_t)(line - text)));
         line = end + 1) {
        char check[TMB_CHECK_HEX + 1];
        *end = '\0';
        if (strlen(line) != (size_t)(end - line) || end - line < TMB_CHECK_HEX + 1 ||
            line[TMB_CHECK_HEX] != ' ')
            return TMB_OK;
        const char *record = line + TMB_CHECK_HEX + 1;
        TRY(check_of(j->check, record, check, err));
        if (memcmp(check, line, TMB_CHECK_HEX) != 0) return TMB_OK;
        if (!j->identity) {
            if (strncmp(record, family, sizeof family - 1) != 0) return TMB_OK;
            if (!(j->identity = strdup(record))) return tmb_fail_memory(err, n, "the journal");
            j->ours = strcmp(record, identity) == 0;
        } else if (!read_record(j, plan, record)) {
            return TMB_OK;
        }
        memcpy(j->check, check, sizeof check);
        j->end = (uint64_t)(end + 1 - text);
    }
    return TMB_OK;
}

static tmb_status load(int fd, const char *path, char **out, size_t *n, tmb_err *err)
{
    struct stat st;
    if (fstat(fd, &st)) return tmb_fail_errno(err, TMB_EIO, "%s: cannot stat", path);
    if (!S_ISREG(st.st_mode) || st.st_nlink > 1 || st.st_size < 0 || st.st_size > TMB_JOURNAL_MAX)
        return tmb_fail(err, TMB_EDATA,
                        "%s: not a journal of ours; remove it or choose another folder", path);
    *n = (size_t)st.st_size;
    *out = malloc(*n + 1);
    if (!*out) return tmb_fail_memory(err, *n + 1, "the journal");
    return tmb_file_pread(fd, *out, *n, 0, path, err);
}

tmb_status tmb_journal_open(tmb_journal *j, int fd, const char *folder, const tmb_plan *plan,
                            const char *identity, tmb_err *err)
{
    char *text = NULL;
    size_t n = 0;
    *j = (tmb_journal){.fd = fd};
    size_t room = strlen(folder) + sizeof TMB_JOURNAL_NAME + 1;
    j->path = malloc(room);
    if (!j->path) return tmb_fail_memory(err, room, "a path");
    snprintf(j->path, room, "%s/%s", folder, TMB_JOURNAL_NAME);
    j->have = calloc(plan->n_files + 1, sizeof *j->have);
    j->sha256 = calloc(plan->n_files + 1, sizeof *j->sha256);
    j->rows = calloc((size_t)plan->n_files * plan->n_rows + 1, sizeof *j->rows);
    j->part_bytes = calloc(plan->n_files + 1, sizeof *j->part_bytes);
    j->part_sha256 = calloc(plan->n_files + 1, sizeof *j->part_sha256);
    j->unit_sums = calloc(plan->job.model->n_units + 1, sizeof *j->unit_sums);
    j->unit_known = calloc(plan->job.model->n_units + 1, sizeof *j->unit_known);
    tmb_status status = TMB_OK;
    if (!j->have || !j->sha256 || !j->rows || !j->part_bytes || !j->part_sha256 || !j->unit_sums ||
        !j->unit_known)
        status = tmb_fail_memory(err, n, "the journal");
    if (!status) status = load(fd, j->path, &text, &n, err);
    if (!status) status = read_lines(j, plan, identity, text, n, err);
    j->damaged = !status && n && !j->identity;
    /* what is not believed is cut off, so that new records follow believed ones */
    if (!status && j->ours && j->end < n && tmb_ftruncate(fd, (off_t)j->end))
        status = tmb_fail_errno(err, TMB_EIO, "%s: cannot shorten", j->path);
    free(text);
    return status;
}

void tmb_journal_close(tmb_journal *j)
{
    free(j->path);
    free(j->identity);
    free(j->have);
    free(j->sha256);
    free(j->rows);
    free(j->part_bytes);
    free(j->part_sha256);
    free(j->unit_sums);
    free(j->unit_known);
    for (uint32_t i = 0; i < j->n_written; i++)
        free(j->written[i]);
    free(j->written);
    *j = (tmb_journal){.fd = -1};
}

long tmb_journal_pid(int fd)
{
    char *text = NULL;
    size_t n = 0;
    long pid = 0;
    if (!load(fd, TMB_JOURNAL_NAME, &text, &n, NULL)) {
        text[n] = '\0';
        for (const char *s = text; (s = strstr(s, " pid ")); s += 5) {
            long value = strtol(s + 5, NULL, 10);
            if (value > 0) pid = value;
        }
    }
    free(text);
    return pid;
}
