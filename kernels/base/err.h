/* err.h - one status, one message.
 *
 * A status is the exit code the program ends with (sysexits.h), so nothing has to be
 * translated on the way up.  The deepest function that knows the cause writes the message
 * (file, tensor, byte; what; remedy); callers pass it on and never guess again. */
#ifndef TMB_BASE_ERR_H
#define TMB_BASE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tmb_status {
    TMB_OK = 0,
    TMB_EDIFFER = 1,       /* what was compared is not the same; no error, and no message */
    TMB_EUSAGE = 64,       /* wrong option, or a recipe that says something impossible */
    TMB_EDATA = 65,        /* a file does not hold what it must */
    TMB_ENOINPUT = 66,     /* a file that should be read is not there */
    TMB_EUNAVAILABLE = 69, /* this machine or this build cannot do it */
    TMB_EINTERNAL = 70,    /* a bug of ours */
    TMB_ESYSTEM = 71,      /* the operating system refused: memory, threads */
    TMB_ECREATE = 73,      /* an output cannot be made: it exists, no permission, no space */
    TMB_EIO = 74,          /* reading or writing failed on the way */
} tmb_status;

enum { TMB_ERR_BYTES = 1024 };

/* Zero it before use, or let tmb_fail() fill it. */
typedef struct tmb_err {
    tmb_status status;
    char message[TMB_ERR_BYTES];
} tmb_err;

#define TMB_CHECKED __attribute__((warn_unused_result))

/* Write the message into err (may be NULL) and return status.  A message is one line without
 * a final dot; what tmb_safe() does not let through is shown as \xNN. */
tmb_status tmb_fail(tmb_err *err, tmb_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with errno's text appended: "FILE: cannot open: No such file or directory".  Where the
 * error says whose it is, the status is its own, whatever was given: a full disk, quota or
 * read-only file system is TMB_ECREATE, EIO is TMB_EIO, too many files or too little memory is
 * TMB_ESYSTEM; a remedy follows where there is one. */
tmb_status tmb_fail_errno(tmb_err *err, tmb_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "out of memory (N bytes for WHAT)". */
tmb_status tmb_fail_memory(tmb_err *err, unsigned long long bytes, const char *what);

/* Return a failed status when nothing is owned; otherwise write `goto out` yourself. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        tmb_status try_status_ = (call);                                                           \
        if (try_status_) return try_status_;                                                       \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
