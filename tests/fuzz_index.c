/* fuzz_index - the shard index.  Whatever it says, a shard is a plain file name. */
#include "config.h"
#include "moe/io/index.h"
#include "tests/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tmb_index index;
    tmb_err err = {0};
    char *text = malloc(size ? size : 1);
    if (!text) return 0;
    memcpy(text, data, size);
    tmb_status status = tmb_index_parse(&index, text, size, "f", &err);
    if (status) {
        MUST(status == TMB_EDATA && strncmp(err.message, "f: ", 3) == 0 &&
             !strpbrk(err.message, "\n\033"));
        return 0;
    }
    for (size_t i = 0; i < index.n_shards; i++) {
        const char *name = index.shards[i];
        size_t n = strlen(name);
        MUST(n > 12 && n < 256 && strcmp(name + n - 12, ".safetensors") == 0);
        MUST(name[0] != '.' && !strpbrk(name, "/\\\n\033"));
        MUST(i == 0 || strcmp(index.shards[i - 1], name) < 0);
    }
    for (size_t i = 0; i < index.n_entries; i++)
        MUST(index.entries[i].shard < index.n_shards && index.entries[i].name[0]);
    tmb_index_free(&index);
    return 0;
}
