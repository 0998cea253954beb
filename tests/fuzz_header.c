/* fuzz_header - the safetensors header.  Input: two bytes, the size of the data; the header's text.
 * What is taken must be sound, and survive being written and read again. */
#include "config.h"
#include "kernels/base/mem.h"
#include "moe/io/safetensors.h"
#include "tests/fuzz.h"

#include <string.h>

static void check(const tmb_header *h)
{
    uint64_t end = 0;
    for (size_t i = 0; i < h->n_tensors; i++) {
        const tmb_tensor *t = &h->tensors[i];
        size_t length = strlen(t->name);
        uint64_t bits = 1;
        MUST(length > 0 && length <= TMB_NAME_MAX && t->rank <= TMB_RANK_MAX);
        for (int d = 0; d < t->rank; d++)
            MUST(tmb_mul(bits, t->shape[d], &bits));
        MUST(tmb_mul(bits, tmb_dtype_bits((tmb_dtype)t->dtype), &bits));
        MUST(bits % 8 == 0 && bits / 8 == t->bytes && t->begin == end);
        for (size_t k = 0; k < i && i < 64; k++)
            MUST(strcmp(h->tensors[k].name, t->name) != 0);
        end += t->bytes;
    }
    MUST(end == h->data_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    uint64_t data_bytes = data[0] | (uint64_t)data[1] << 8;
    tmb_header first, second;
    tmb_err err = {0};
    char *text = malloc(size - 2 ? size - 2 : 1), *again;
    size_t n;
    if (!text) return 0;
    memcpy(text, data + 2, size - 2);
    tmb_status status = tmb_header_parse(&first, text, size - 2, data_bytes, "f", &err);
    if (status) {
        MUST(status == TMB_EDATA && strncmp(err.message, "f: ", 3) == 0 &&
             !strpbrk(err.message, "\n\033"));
        return 0;
    }
    check(&first);
    MUST(!tmb_header_format(&again, &n, first.tensors, first.n_tensors, "f", &err));
    MUST(n % 8 == 0);
    MUST(!tmb_header_parse(&second, again, n, data_bytes, "f", &err));
    check(&second);
    MUST(first.n_tensors == second.n_tensors);
    for (size_t i = 0; i < first.n_tensors; i++) {
        const tmb_tensor *a = &first.tensors[i], *b = &second.tensors[i];
        MUST(strcmp(a->name, b->name) == 0 && a->dtype == b->dtype && a->rank == b->rank);
        MUST(!a->rank || memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0);
    }
    tmb_header_free(&first);
    tmb_header_free(&second);
    return 0;
}
