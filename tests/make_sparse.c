/* make_sparse.c - make_sparse FOLDER LAYERS EXPERTS bf16|fp8: a checkpoint of DeepSeek-V3's shapes
 * whose weights are holes, to see what plan and quantize do at full size. */
#include "config.h"
#include "tests/sparse.h"

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s FOLDER LAYERS EXPERTS bf16|fp8\n", argv[0]);
        return 64;
    }
    mkdir(argv[1], 0755);
    sparse s = {.folder = argv[1],
                .layers = strtoull(argv[2], NULL, 10),
                .experts = strtoull(argv[3], NULL, 10),
                .hidden = 7168,
                .inter = 2048,
                .vocab = 129280,
                .fp8 = strcmp(argv[4], "fp8") == 0,
                .shard_bytes = UINT64_C(5000000000)};
    size_t tensors = sparse_make(&s);
    printf("%zu tensors, %u shards, %.1f GB\n", tensors, s.shards, (double)s.total / 2e9);
    return 0;
}
