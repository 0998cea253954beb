/* fault_sweep.h - the faults that a command meets, one a run, and what it has to say about them. */
#ifndef TMB_TESTS_FAULT_SWEEP_H
#define TMB_TESTS_FAULT_SWEEP_H

#include "tests/faulty.h"

typedef struct fault {
    fault_kind kind;
    int error;
    const char *how;
    bool harmless; /* must not show at all */
} fault;

static const fault faults[] = {
    {FAULT_OPEN, EACCES, "once", false},
    {FAULT_OPEN, EMFILE, "forever", false},
    {FAULT_OPEN, EIO, "once", false},
    {FAULT_OPEN, EINTR, "once", true},
    {FAULT_READ, EIO, "once", false},
    {FAULT_READ, EINTR, "once", true},
    {FAULT_READ, 0, "short", true},
    {FAULT_WRITE, ENOSPC, "forever", false},
    {FAULT_WRITE, ENOSPC, "once", false},
    {FAULT_WRITE, EDQUOT, "once", false},
    {FAULT_WRITE, EIO, "once", false},
    {FAULT_WRITE, EINTR, "once", true},
    {FAULT_WRITE, 0, "short", true},
    {FAULT_SYNC, EIO, "once", false},
    {FAULT_SYNC, ENOSPC, "once", false},
    {FAULT_SYNC, EINTR, "once", true},
    {FAULT_RESERVE, ENOSPC, "forever", false},
    {FAULT_RESERVE, EIO, "once", false},
    {FAULT_RESERVE, EINTR, "once", true},
    {FAULT_RESERVE, EOPNOTSUPP, "forever", true},
    {FAULT_TRUNCATE, EIO, "once", false},
    {FAULT_TRUNCATE, EINTR, "once", true},
    {FAULT_RENAME, EIO, "once", false},
    {FAULT_RENAME, ENOSPC, "once", false},
    {FAULT_RENAME, EACCES, "once", false},
    {FAULT_UNLINK, EIO, "once", false},
    {FAULT_UNLINK, EACCES, "forever", false},
    {FAULT_MKDIR, EACCES, "once", false},
    {FAULT_MKDIR, ENOSPC, "once", false},
    {FAULT_MKDIR, EROFS, "once", false},
    {FAULT_CLOSE, EIO, "once", false},
    {FAULT_CLOSE, EINTR, "once", true},
    {FAULT_STAT, EIO, "once", false},
    {FAULT_STAT, EACCES, "once", false},
    {FAULT_LOCK, ENOLCK, "once", false},
    {FAULT_LOCK, EINTR, "once", true},
    {FAULT_LIST, EIO, "once", false},
    {FAULT_LIST, ENOMEM, "once", false},
    {FAULT_MEMORY, ENOMEM, "once", false},
    {FAULT_MEMORY, ENOMEM, "forever", false},
    {FAULT_THREAD, EAGAIN, "once", true},
    {FAULT_THREAD, EAGAIN, "forever", true},
};

/* Other programs fill and empty the disk meanwhile, and plan prints how much is free. */
static const char disk[] = "1000000000000";

/* The exit codes that tell of this error. */
static inline bool right_code(const fault *f, int rc)
{
    if (f->kind == FAULT_MEMORY || f->error == ENOMEM) return rc == TMB_ESYSTEM;
    switch (f->error) {
    case EMFILE:
        return rc == TMB_ESYSTEM;
    case EIO:
        return rc == TMB_EIO;
    case ENOSPC:
    case EDQUOT:
    case EROFS:
        return rc == TMB_ECREATE;
    case EAGAIN:
        return rc == TMB_ESYSTEM;
    default: /* reading, making or going on with something that is forbidden */
        return rc == TMB_ENOINPUT || rc == TMB_ECREATE || rc == TMB_EIO;
    }
}

/* Why the message is none to be proud of; NULL: it is fine. */
static inline const char *message_fault(const fault *f, const outcome *o)
{
    size_t n = strlen(o->text);
    if (strncmp(o->text, "tombac: ", 8) != 0 || strchr(o->text, '\n') != o->text + n - 1)
        return "not one line of ours";
    if (f->kind == FAULT_MEMORY || f->error == ENOMEM)
        return strstr(o->text, "memory") ? NULL : "does not speak of memory";
    const char *why = f->error == ENOSPC   ? "full"
                      : f->error == EDQUOT ? "quota"
                                           : strerror(f->error);
    if (!strstr(o->text, why) && !(f->error == ENOSPC && strstr(o->text, strerror(ENOSPC))))
        return "does not say what the system said";
    const char *base = strrchr(o->struck, '/');
    base = base ? base + 1 : o->struck;
    if (strncmp(base, ".tmp-", 5) == 0) base += 5;
    /* when all fails from there on, another call may tell of it */
    if (*base == '.' || strcmp(f->how, "forever") == 0) return NULL;
    return strstr(o->text, base) ? NULL : "does not name the file";
}

/* Every so many of the calls is struck: each in a long run, else about `most` of them. */
static inline unsigned long long step_for(unsigned long long calls, unsigned long long most)
{
    return long_run() || calls <= most ? 1 : calls / most;
}

#endif
