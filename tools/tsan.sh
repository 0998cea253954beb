#!/bin/sh
# tsan.sh - plan, quantize and verify in several threads under ThreadSanitizer: whole, interrupted,
# killed and gone on with, with threads and memory refused, in every layout of the input's shards.
#
#   sh tools/tsan.sh [CC]     clang where there is one, else gcc
#
# Builds in ./build/tsan; a report is printed and makes the exit status 1.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
. "$top/tools/common.sh"
cc=${1:-$(command -v clang || echo gcc)}
make_configure
build_in "$build/tsan" CC="$cc" CFLAGS='-g -O1' --enable-sanitize=thread --without-cuda --without-mpi ||
    die "the build with $cc -fsanitize=thread failed"
make -C "$build/tsan" tests/faulty >"$build/tsan/faulty.log" 2>&1 || die "see $build/tsan/faulty.log"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
log=$work/report
TSAN_OPTIONS="log_path=$log halt_on_error=0 exitcode=0 report_signal_unsafe=0"
export TSAN_OPTIONS
runs=0
faulty() {
    runs=$((runs + 1))
    "$build/tsan/tests/faulty" "$@" >"$work/stdout" 2>"$work/stderr"
}
recipe=$top/recipes/nvfp4-experts.ini

for model in tinymoe/a arch/mixtral arch/gpt_oss_mxfp4 arch/deepseek_v3_fp8 arch/llama4_mm; do
    for threads in 2 3 8; do
        source=$top/tests/data/$model out=$work/out-$threads
        rm -rf "$out"
        set -- quantize "$source" --recipe "$recipe" -o "$out" --threads "$threads" --shard-size 200K -q
        # stopped from outside, from inside, refused a thread and memory: then it goes on
        "$build/tsan/tests/faulty" "$@" >"$work/stdout" 2>"$work/stderr" & pid=$!
        sleep 0.2
        kill -TERM "$pid" 2>/dev/null
        wait "$pid"
        TOMBAC_FAULT="thread 2 11 forever" faulty "$@"
        rm -rf "$out"
        TOMBAC_FAULT="rename 2 5 once" faulty "$@"
        TOMBAC_FAULT="change 60 0 kill-before" faulty "$@"
        TOMBAC_FAULT="memory 900 12 once" faulty "$@"
        faulty "$@" || [ -f "$out/tombac.json" ] || { cat "$work/stderr"; die "$model: quantize failed"; }
        faulty verify "$out" --against "$source" --threads "$threads" ||
            { cat "$work/stderr"; die "$model: verify failed"; }
    done
done
reports=$(cat "$log".* 2>/dev/null | grep -c 'WARNING: ThreadSanitizer')
[ "$reports" = 0 ] || cat "$log".*
say "$runs runs under ThreadSanitizer ($cc), $reports reports"
[ "$reports" = 0 ]
