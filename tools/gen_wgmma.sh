#!/bin/sh
# Prints kernels/cuda/sm90/wgmma.cuh: one wrapper for each N of wgmma.m64nNk16 (BF16, A in
# registers, float32 sums).  The operand lists are too long to write or read by hand.
#   sh tools/gen_wgmma.sh 32 64 128 192 256 > kernels/cuda/sm90/wgmma.cuh
cat <<'H'
/* wgmma.cuh - made by tools/gen_wgmma.sh; wgmma.mma_async.m64nNk16 with A from registers
 * (PTX ISA 8.0, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate"). */
#ifndef TMB_CUDA_SM90_WGMMA_CUH
#define TMB_CUDA_SM90_WGMMA_CUH

#include <stdint.h>

/* c [N / 2] += a [4] * B; desc: shared-memory descriptor of B [16, N], K-major. */
template <int N> __device__ void wgmma_bf16(float *c, const uint32_t *a, uint64_t desc);
H
for n in "$@"; do
    awk -v n="$n" 'BEGIN {
        r = n / 2
        printf "\ntemplate <>\n__device__ __forceinline__ void wgmma_bf16<%d>(float *c, const uint32_t *a, uint64_t desc)\n{\n", n
        printf "    asm volatile(\"wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16 {\"", n
        for (i = 0; i < r; i++) {
            if (i % 16 == 0) printf "\n                 \""
            printf "%%%d%s", i, i < r - 1 ? "," : "},"
            if (i % 16 == 15 || i == r - 1) printf "\""
        }
        printf "\n                 \"{%%%d,%%%d,%%%d,%%%d},%%%d,1,1,1,0;\"\n                 :", r, r + 1, r + 2, r + 3, r + 4
        for (i = 0; i < r; i++) {
            if (i % 8 == 0) printf "%s", i ? "\n                   " : " "
            printf "\"+f\"(c[%d])%s", i, i < r - 1 ? "," : ""
            if (i % 8 != 7 && i < r - 1) printf " "
        }
        printf "\n                 : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(desc));\n}\n"
    }'
done
echo
echo '#endif'
