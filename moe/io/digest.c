/* digest.c - SHA-256 (FIPS 180-4) by libcrypto, which is included nowhere else. */
#include "config.h"
#include "moe/io/files.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { CHUNK_BYTES = 1 << 20, SHA256_BYTES = 32 };

static tmb_status finish(EVP_MD_CTX *ctx, char out[TMB_SHA256_HEX], tmb_err *err)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (EVP_DigestFinal_ex(ctx, digest, &n) != 1 || n != SHA256_BYTES)
        return tmb_fail(err, TMB_ESYSTEM,
                        "libcrypto cannot compute SHA-256; it may be out of memory");
    for (unsigned i = 0; i < n; i++) {
        out[2 * i] = hex[digest[i] >> 4];
        out[2 * i + 1] = hex[digest[i] & 15];
    }
    out[2 * n] = 0;
    return TMB_OK;
}

static EVP_MD_CTX *start(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1) return ctx;
    EVP_MD_CTX_free(ctx);
    return NULL;
}

tmb_status tmb_sha256(const void *data, size_t n, char out[TMB_SHA256_HEX], tmb_err *err)
{
    EVP_MD_CTX *ctx = start();
    if (!ctx || EVP_DigestUpdate(ctx, data, n) != 1) {
        EVP_MD_CTX_free(ctx);
        return tmb_fail(err, TMB_ESYSTEM,
                        "libcrypto cannot compute SHA-256; it may be out of memory");
    }
    tmb_status status = finish(ctx, out, err);
    EVP_MD_CTX_free(ctx);
    return status;
}

tmb_status tmb_sha256_file(int fd, const char *path, char out[TMB_SHA256_HEX], tmb_err *err)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0) return tmb_fail_errno(err, TMB_EIO, "%s: cannot stat", path);
    char *buf = malloc(CHUNK_BYTES);
    EVP_MD_CTX *ctx = start();
    tmb_status status = TMB_OK;
    if (!buf || !ctx) status = tmb_fail_memory(err, CHUNK_BYTES, "a checksum");
    uint64_t size = (uint64_t)stat.st_size;
    for (uint64_t at = 0; !status && at < size;) {
        size_t n = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        status = tmb_file_pread(fd, buf, n, at, path, err);
        if (!status && EVP_DigestUpdate(ctx, buf, n) != 1)
            status = tmb_fail(err, TMB_ESYSTEM,
                              "libcrypto cannot compute SHA-256; it may be out of memory");
        at += n;
    }
    if (!status) status = finish(ctx, out, err);
    EVP_MD_CTX_free(ctx);
    free(buf);
    return status;
}

/* The stream is libcrypto's context itself. */
tmb_status tmb_sha256_open(tmb_sha256_stream **out, tmb_err *err)
{
    *out = (tmb_sha256_stream *)start();
    return *out ? TMB_OK : tmb_fail_memory(err, 256, "a checksum");
}

tmb_status tmb_sha256_add(tmb_sha256_stream *s, const void *data, size_t n, tmb_err *err)
{
    if (EVP_DigestUpdate((EVP_MD_CTX *)s, data, n) == 1) return TMB_OK;
    return tmb_fail(err, TMB_ESYSTEM, "libcrypto cannot compute SHA-256");
}

tmb_status tmb_sha256_end(tmb_sha256_stream *s, char out[TMB_SHA256_HEX], tmb_err *err)
{
    return finish((EVP_MD_CTX *)s, out, err);
}

tmb_status tmb_sha256_peek(const tmb_sha256_stream *s, char out[TMB_SHA256_HEX], tmb_err *err)
{
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    tmb_status status = TMB_OK;
    if (!copy || EVP_MD_CTX_copy_ex(copy, (const EVP_MD_CTX *)s) != 1)
        status = tmb_fail_memory(err, 256, "a checksum");
    if (!status) status = finish(copy, out, err);
    EVP_MD_CTX_free(copy);
    return status;
}

void tmb_sha256_close(tmb_sha256_stream *s)
{
    EVP_MD_CTX_free((EVP_MD_CTX *)s);
}
