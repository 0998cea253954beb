/* fuzz_tokenizer - a tokenizer.json, and behind a NUL a text.  What is read encodes the text, in
 * two ways the same, to ids that it has, and takes them back. */
#include "config.h"
#include "moe/tokens/tokenizer.h"
#include "moe/tokens/utf8.h"
#include "tests/fuzz.h"

#include <string.h>

static void encode(const tmb_tokenizer *t, const char *text, size_t n)
{
    tmb_err err = {0};
    tmb_encoder *e;
    tmb_ids first = {0}, second = {0};
    char *back;
    size_t bytes;
    MUST(!tmb_encoder_open(&e, t, &err));
    tmb_status status = tmb_encode(e, text, n, true, "t", &first, &err);
    bool good = tmb_utf8_check((const uint8_t *)text, n) == n;
    MUST(status == TMB_OK || status == TMB_EDATA);
    MUST(good || status);
    MUST(!status || !strpbrk(err.message, "\n\033"));
    if (!status) { /* now from the cache of words */
        MUST(!tmb_encode(e, text, n, true, "t", &second, &err));
        MUST(first.n == second.n &&
             (!first.n || !memcmp(first.ids, second.ids, first.n * sizeof *first.ids)));
        for (size_t i = 0; i < first.n; i++)
            MUST((uint32_t)first.ids[i] < tmb_tokenizer_ids(t));
        status = tmb_decode(t, first.ids, first.n, true, &back, &bytes, &err);
        MUST(status == TMB_OK || status == TMB_EDATA);
        if (!status) MUST(strlen(back) <= bytes);
        if (!status) free(back);
    }
    free(first.ids);
    free(second.ids);
    tmb_encoder_close(e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    tmb_tokenizer *t;
    tmb_err err = {0};
    char *json = malloc(n + 1); /* of its own size, so that a sanitizer sees its end */
    MUST(json);
    if (n) memcpy(json, data, n);
    tmb_status status = tmb_tokenizer_parse(&t, json, n, "f", &err);
    if (status) {
        MUST(status == TMB_EDATA && strncmp(err.message, "f: ", 3) == 0 &&
             !strpbrk(err.message, "\n\033"));
        return 0;
    }
    if (nul) encode(t, (const char *)nul + 1, size - n - 1);
    tmb_tokenizer_close(t);
    return 0;
}
