#include "config.h"
#include "kernels/base/err.h"

#include "kernels/base/safe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 3, 0))) static void write_message(tmb_err *err, tmb_status status,
                                                                const char *format, va_list ap)
{
    char raw[TMB_ERR_BYTES];
    err->status = status;
    vsnprintf(raw, sizeof raw, format, ap);
    tmb_safe(err->message, sizeof err->message, raw); /* names come from strangers' files */
}

tmb_status tmb_fail(tmb_err *err, tmb_status status, const char *format, ...)
{
    if (!err) return status;
    va_list ap;
    va_start(ap, format);
    write_message(err, status, format, ap);
    va_end(ap);
    return status;
}

/* Some errors say themselves whose they are, wherever they show. */
static tmb_status status_of(int number, tmb_status status)
{
    switch (number) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return TMB_ESYSTEM;
    case ENOSPC:
    case EDQUOT:
    case EROFS:
        return TMB_ECREATE;
    case EIO:
        return TMB_EIO;
    default:
        return status;
    }
}

static const char *remedy_of(int number)
{
    switch (number) {
    case EMFILE:
        return "; raise the limit of open files (ulimit -n)";
    case ENOSPC:
    case EDQUOT:
        return "; make room and run the same command again";
    case EFBIG:
        return "; the file system or a limit (ulimit -f) allows no larger file";
    case EROFS:
        return "; choose a folder that can be written";
    default:
        return "";
    }
}

tmb_status tmb_fail_errno(tmb_err *err, tmb_status status, const char *format, ...)
{
    const int number = errno;
    status = status_of(number, status);
    if (!err) return status;
    va_list ap;
    va_start(ap, format);
    write_message(err, status, format, ap);
    va_end(ap);
    size_t n = strlen(err->message);
    snprintf(err->message + n, sizeof err->message - n, ": %s%s", strerror(number),
             remedy_of(number));
    return status;
}

tmb_status tmb_fail_memory(tmb_err *err, unsigned long long bytes, const char *what)
{
    return tmb_fail(err, TMB_ESYSTEM, "out of memory (%llu bytes for %s)", bytes, what);
}
