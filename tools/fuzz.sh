#!/bin/sh
# fuzz.sh SECONDS [TARGET...] - run the fuzz targets tests/fuzz_TARGET.c with clang's libFuzzer,
# AddressSanitizer and UndefinedBehaviorSanitizer, from a configured build folder.  New inputs go
# to ./fuzz/TARGET; what was found, to ./fuzz/TARGET-crash-*.  The corpus that `make check` replays
# is tests/data/fuzz/TARGET.
set -e
seconds=${1:?usage: fuzz.sh SECONDS [header|index|json]...}
shift
src=$(cd "$(dirname "$0")/.." && pwd)
test -f config.h || { echo "fuzz.sh: run me in a configured build folder" >&2; exit 64; }
mkdir -p fuzz
for target in ${*:-header index json}; do
    mkdir -p "fuzz/$target"
    clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
        -I. -I"$src" "$src/tests/fuzz_$target.c" "$src"/moe/io/*.c "$src"/kernels/base/*.c \
        -o "fuzz/fuzz_$target" -ljansson -lcrypto -lpcre2-8 -lm
    nice -n 19 "fuzz/fuzz_$target" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 \
        -artifact_prefix="fuzz/$target-" -dict="$src/tests/data/fuzz/json.dict" \
        "fuzz/$target" "$src/tests/data/fuzz/$target" >"fuzz/$target.log" 2>&1 ||
        { echo "fuzz.sh: $target found something, see fuzz/$target.log" >&2; exit 1; }
    grep -E 'number_of_executed_units|average_exec' "fuzz/$target.log" | sed "s/^/$target: /"
done
