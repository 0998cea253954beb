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

tmb_status tmb_fail_errno(tmb_err *err, tmb_status status, const char *format, ...)
{
    const char *cause = strerror(errno);
    if (!err) return status;
    va_list ap;
    va_start(ap, format);
    write_message(err, status, format, ap);
    va_end(ap);
    size_t n = strlen(err->message);
    snprintf(err->message + n, sizeof err->message - n, ": %s", cause);
    return status;
}

tmb_status tmb_fail_memory(tmb_err *err, unsigned long long bytes, const char *what)
{
    return tmb_fail(err, TMB_ESYSTEM, "out of memory (%llu bytes for %s)", bytes, what);
}
