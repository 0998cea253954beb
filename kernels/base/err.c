#include "config.h"
#include "kernels/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names come from strangers' files: a message must not move the cursor or hide its own end. */
static void escape(char *message, size_t size)
{
    char raw[TMB_ERR_BYTES];
    size_t n = 0;
    snprintf(raw, sizeof raw, "%s", message);
    for (const unsigned char *p = (const unsigned char *)raw; *p && n + 5 < size; p++) {
        if (*p < 0x20 || *p == 0x7f)
            n += (size_t)snprintf(message + n, size - n, "\\x%02x", *p);
        else
            message[n++] = (char)*p;
    }
    message[n] = 0;
}

__attribute__((format(printf, 3, 0))) static void
write_message(tmb_err *err, tmb_status status, const char *format, va_list ap)
{
    err->status = status;
    vsnprintf(err->message, sizeof err->message, format, ap);
    escape(err->message, sizeof err->message);
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
