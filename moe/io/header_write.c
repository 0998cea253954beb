/* header_write.c - the header of a shard to be written.  Sizes are counted before a byte is laid
 * down: tmb_header_entry_bytes() is the very function that plan uses to predict a file's size. */
#include "config.h"
#include "moe/io/safetensors.h"

#include "kernels/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char opening[] = "{\"__metadata__\":{\"format\":\"pt\"}";

/* JSON spells these with a backslash; everything else in a name stands as it is. */
static size_t escaped_bytes(const char *name)
{
    size_t n = 0;
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        n += *p < 0x20 ? 6 : *p == '"' || *p == '\\' ? 2 : 1;
    return n;
}

static char *put_escaped(char *w, const char *name)
{
    static const char hex[] = "0123456789abcdef";
    for (const unsigned char *p = (const unsigned char *)name; *p; p++) {
        if (*p < 0x20) {
            memcpy(w, "\\u00", 4);
            w[4] = hex[*p >> 4];
            w[5] = hex[*p & 15];
            w += 6;
            continue;
        }
        if (*p == '"' || *p == '\\') *w++ = '\\';
        *w++ = (char)*p;
    }
    return w;
}

static size_t digits(uint64_t v)
{
    size_t n = 1;
    while (v >= 10) {
        v /= 10;
        n++;
    }
    return n;
}

static char *put_u64(char *w, uint64_t v)
{
    size_t n = digits(v);
    for (size_t i = n; i-- > 0; v /= 10)
        w[i] = (char)('0' + v % 10);
    return w + n;
}

static char *put(char *w, const char *text)
{
    size_t n = strlen(text);
    memcpy(w, text, n);
    return w + n;
}

/* ,"NAME":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]} */
size_t tmb_header_entry_bytes(const tmb_tensor *t, uint64_t begin)
{
    size_t n = strlen(",\"\":{\"dtype\":\"\",\"shape\":[],\"data_offsets\":[,]}");
    n += escaped_bytes(t->name) + strlen(tmb_dtype_name((tmb_dtype)t->dtype));
    for (int i = 0; i < t->rank; i++)
        n += digits(t->shape[i]) + (i > 0);
    return n + digits(begin) + digits(begin + t->bytes);
}

static char *put_entry(char *w, const tmb_tensor *t, uint64_t begin)
{
    w = put_escaped(put(w, ",\""), t->name);
    w = put(put(w, "\":{\"dtype\":\""), tmb_dtype_name((tmb_dtype)t->dtype));
    w = put(w, "\",\"shape\":[");
    for (int i = 0; i < t->rank; i++) {
        if (i > 0) *w++ = ',';
        w = put_u64(w, t->shape[i]);
    }
    w = put_u64(put(w, "],\"data_offsets\":["), begin);
    *w++ = ',';
    return put(put_u64(w, begin + t->bytes), "]}");
}

tmb_status tmb_header_format(char **text, size_t *n, const tmb_tensor *tensors, size_t n_tensors,
                             const char *name, tmb_err *err)
{
    uint64_t begin = 0, bytes = sizeof opening - 1 + 1;
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t end;
        if (!tmb_add(begin, tensors[i].bytes, &end) || end > INT64_MAX)
            return tmb_fail(err, TMB_EDATA, "%s: over 2^63 bytes of tensors", name);
        bytes += tmb_header_entry_bytes(&tensors[i], begin);
        begin = end;
    }
    bytes = tmb_ceil_div(8 + bytes, 8) * 8 - 8;
    if (bytes > TMB_HEADER_MAX)
        return tmb_fail(
            err, TMB_EDATA,
            "%s: %zu tensors need a header of %llu bytes, readers take %u; use smaller shards",
            name, n_tensors, (unsigned long long)bytes, TMB_HEADER_MAX);
    char *out = malloc((size_t)bytes + 1);
    if (!out) return tmb_fail_memory(err, bytes + 1, "a header");
    char *w = put(out, opening);
    begin = 0;
    for (size_t i = 0; i < n_tensors; i++) {
        w = put_entry(w, &tensors[i], begin);
        begin += tensors[i].bytes;
    }
    *w++ = '}';
    memset(w, ' ', (size_t)(out + bytes - w));
    out[bytes] = 0;
    *text = out;
    *n = (size_t)bytes;
    return TMB_OK;
}
