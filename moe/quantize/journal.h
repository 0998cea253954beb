/* journal.h - tombac.journal: what an unfinished output holds, so that the same command goes on.
 *
 * Text, one record a line: 16 hex digits of SHA-256 over the digits of the line before and this
 * line's text, a space, the text.  A line that was cut off, or whose check is wrong, ends the
 * journal: what follows is not believed.  Records:
 *   tombac journal 2 version=V layout=L shard_size=N copy_code=B recipe=SHA source=SHA
 *   pid N                                     who works on it
 *   shard I BYTES SHA [ROW WORST SQNR SIGNAL NOISE DOT POWER MAX]...   published, with its error
 *   part I BYTES SHA [UNIT SIGNAL NOISE DOT POWER MAX]...   so many bytes of the temporary file are
 *                                             on the disk; the errors of units that are new in it
 * sums file NAME                                 about to be published The file itself carries the
 * lock (flock), so that two processes never share an output.  It is an input like any other: every
 * field is checked, names are plain, and a shard is believed only after its bytes were hashed
 * again. */
#ifndef TMB_QUANTIZE_JOURNAL_H
#define TMB_QUANTIZE_JOURNAL_H

#include "moe/quantize/plan.h"

#define TMB_JOURNAL_NAME "tombac.journal"
enum { TMB_CHECK_HEX = 16, TMB_JOURNAL_MAX = 256 << 20 };

/* Error sums of one row in one shard, units folded in their order. */
typedef struct tmb_row_sums {
    tmb_sums sums;
    double worst_sqnr_db;
    uint32_t worst; /* unit; TMB_NONE: the row has nothing here */
} tmb_row_sums;

typedef struct tmb_journal {
    int fd;
    char *path;   /* for messages */
    uint64_t end; /* where the next record goes */
    char check[TMB_CHECK_HEX + 1];
    char *identity;                 /* the first record's text, NULL when the journal is new */
    bool ours;                      /* identity is that of the plan: shard records were read */
    bool damaged;                   /* there is text, but it does not begin as a journal does */
    bool *have;                     /* [n_files]: the shard was published */
    char (*sha256)[TMB_SHA256_HEX]; /* [n_files] */
    tmb_row_sums *rows;             /* [n_files, n_rows] */
    uint64_t *part_bytes;           /* [n_files]: of the last part, 0: none */
    char (*part_sha256)[TMB_SHA256_HEX]; /* [n_files] */
    tmb_sums *unit_sums;                 /* [n_units] */
    bool *unit_known;                    /* [n_units]: its sums are in a part */
    char **written;                      /* names in file records */
    uint32_t n_written;
} tmb_journal;

/* fd: the open and locked file, which stays the caller's.  identity: of the plan. */
tmb_status tmb_journal_open(tmb_journal *j, int fd, const char *folder, const tmb_plan *plan,
                            const char *identity, tmb_err *err) TMB_CHECKED;
void tmb_journal_close(tmb_journal *j);
/* Forget everything and begin with this identity. */
tmb_status tmb_journal_begin(tmb_journal *j, const char *identity, tmb_err *err) TMB_CHECKED;
tmb_status tmb_journal_add(tmb_journal *j, const char *text, tmb_err *err) TMB_CHECKED;
tmb_status tmb_journal_add_shard(tmb_journal *j, const tmb_plan *plan, uint32_t file,
                                 const char *sha256, const tmb_row_sums *rows,
                                 tmb_err *err) TMB_CHECKED;

/* units [n]: ascending; their sums are sums[unit]. */
tmb_status tmb_journal_add_part(tmb_journal *j, uint32_t file, uint64_t bytes, const char *sha256,
                                const uint32_t *units, uint32_t n, const tmb_sums *sums,
                                tmb_err *err) TMB_CHECKED;

/* What has to be equal for a run to be continued; malloc'ed, the caller's. */
tmb_status tmb_journal_identity(const tmb_plan *plan, char **out, tmb_err *err) TMB_CHECKED;
/* The first thing that differs between two identities: "the recipe". */
const char *tmb_journal_difference(const char *a, const char *b);
/* The pid of the last pid record in fd, 0 when there is none; for a message only. */
long tmb_journal_pid(int fd);
/* A base name without anything special: it can neither leave the folder nor disturb a terminal,
 * and leaves room for the temporary one. */
bool tmb_plain_name(const char *name);

#endif
