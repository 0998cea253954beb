/* fuzz_data - token ids: .jsonl, .npy, .bin and .safetensors.  Input: a byte that
 * chooses the reader, then the file.  What is taken gives ids of the vocabulary only, in one piece
 * or in several the same. */
#include "config.h"
#include "moe/tokens/docs.h"
#include "tests/fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VOCAB = 500, DOCUMENTS = 64, TOKENS = 4096 };

static tmb_status (*const readers[])(tmb_docs *, tmb_err *) = {
    tmb_docs_jsonl, tmb_docs_npy, tmb_docs_bin, tmb_docs_safetensors, tmb_docs_bin};

/* One memory file for all runs: d->fd borrows it. */
static int file_of(const uint8_t *data, size_t n)
{
    static int fd = -1;
    if (fd < 0) fd = memfd_create("data", MFD_CLOEXEC);
    MUST(fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, data, n, 0) == (ssize_t)n);
    return fd;
}

static void refused(tmb_status status, const tmb_err *err)
{
    MUST(status == TMB_EDATA && strncmp(err->message, "f: ", 3) == 0 &&
         !strpbrk(err->message, "\n\033"));
}

static void read_document(tmb_docs *d, uint64_t tokens)
{
    static int32_t whole[TOKENS], parts[TOKENS];
    tmb_err err = {0};
    size_t n = tokens < TOKENS ? (size_t)tokens : TOKENS, half = n / 2;
    tmb_status status = d->read(d, 0, n, whole, &err);
    if (status) {
        refused(status, &err);
        return;
    }
    for (size_t i = 0; i < n; i++)
        MUST(whole[i] >= 0 && whole[i] < VOCAB);
    MUST(!d->read(d, 0, half, parts, &err) && !d->read(d, half, n - half, parts + half, &err));
    MUST(!memcmp(whole, parts, n * sizeof *whole));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    unsigned kind = data[0] % (sizeof readers / sizeof *readers);
    tmb_data_options o = {.vocab = VOCAB, .ids_type = kind == 4 ? TMB_IDS_U32 : TMB_IDS_U16};
    tmb_docs_context context = {.o = &o};
    tmb_err err = {0};
    tmb_docs d = {.path = "f",
                  .context = &context,
                  .fd = file_of(data + 1, size - 1),
                  .file_bytes = size - 1};
    tmb_status status = readers[kind](&d, &err);
    if (status) refused(status, &err);
    for (uint64_t i = 0; !status && i < d.n && i < DOCUMENTS; i++) {
        uint64_t tokens = 0;
        tmb_status opened = d.open_doc(&d, i, &tokens, &err);
        if (opened) {
            refused(opened, &err);
            continue;
        }
        MUST(tokens <= size);
        read_document(&d, tokens);
    }
    if (d.close) d.close(&d);
    return 0;
}
