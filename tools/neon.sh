#!/bin/sh
# neon.sh - the Advanced SIMD kernels without an ARM machine: compile them and the reference with
# Debian's cross compiler, and hold them against each other, byte for byte, under qemu.
#
#   apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
#   sh tools/neon.sh
#
# Runs tests/test_ops.c and tests/test_formats.c with what they need of the library: minutes, because
# the processor is emulated.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=${CC:-aarch64-linux-gnu-gcc}
mkdir -p "$work/moe/format"
printf '#define _GNU_SOURCE 1\n#define HAVE_NEON 1\n#define PACKAGE_VERSION "0"\n' >"$work/config.h"
words=
for f in $(sed -n '/^tmb_formats = /,/[^\\]$/s/.*\(moe\/format\/[a-z0-9_]*\).*/\1/p' "$top/moe/local.mk"); do
    echo "X($(basename "$f"))" >>"$work/moe/format/registry.inc"
    words="$words $top/$f.c"
done
base="$(ls "$top"/kernels/base/*.c) $top/kernels/cpu/ref.c $top/kernels/cpu/neon.c $top/kernels/cpu/cpu.c"
nn=$(ls "$top"/kernels/cpu/nn_ref.c 2>/dev/null || true)
for t in test_ops test_formats; do
    # shellcheck disable=SC2086 # lists of files
    $cc -std=gnu11 -O2 -static -ffp-contract=off -fopenmp-simd -I"$work" -I"$top" -o "$work/$t" \
        "$top/tests/$t.c" $base $nn $words "$top/moe/format/formats.c" "$top/moe/format/parts.c" \
        "$top/moe/format/mx.c" -lm -lpthread
    echo "# $t"
    srcdir=$top qemu-aarch64 "$work/$t"
done
