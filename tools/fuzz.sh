#!/bin/sh
# fuzz.sh RUNS [TARGET...] - run the fuzz targets tests/fuzz_TARGET, RUNS inputs each, from a build
# folder configured with   CC=clang --enable-fuzz   (or --enable-fuzz=bare: no sanitizers, several
# times as fast) and built.  LIMIT=n ends each after n seconds.
# New inputs go to ./fuzz/TARGET and what was found to ./fuzz/TARGET-crash-*; `make check` replays
# tests/data/fuzz/TARGET, to which `fuzz.sh keep TARGET...` adds what covers more than it does.
set -e
runs=${1:?usage: fuzz.sh RUNS|keep [TARGET...]}
shift
src=$(cd "$(dirname "$0")/.." && pwd)
test -x tests/fuzz_header || { echo "fuzz.sh: run me where --enable-fuzz was built" >&2; exit 64; }
targets=${*:-$(cd tests && ls fuzz_* | grep -v '\.o$' | sed 's/^fuzz_//')}
# A small quarantine and no stacks of allocations: the same errors are found, twice as fast.
ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=1:detect_leaks=1
OMP_NUM_THREADS=1
export ASAN_OPTIONS OMP_NUM_THREADS
for target in $targets; do
    corpus=$src/tests/data/fuzz/$target
    mkdir -p "fuzz/$target"
    if [ "$runs" = keep ]; then
        "tests/fuzz_$target" -merge=1 "$corpus" "fuzz/$target" 2>&1 | grep 'MERGE-OUTER.*new' || :
        continue
    fi
    case $target in # as long as an input has to be; every byte costs executions
    header | index) bytes=1024 ;;
    json) bytes=512 ;;
    model | data) bytes=1000 ;;
    forward) bytes=2000 ;;
    verify) bytes=1500 ;;
    journal) bytes=400 ;;
    *) bytes=300 ;;
    esac
    nice -n 19 "tests/fuzz_$target" -runs="$runs" -max_total_time="${LIMIT:-0}" -max_len=$bytes \
        -print_final_stats=1 -artifact_prefix="fuzz/$target-" \
        -dict="$src/tests/data/fuzz/json.dict" "fuzz/$target" "$corpus" \
        >"fuzz/$target.log" 2>&1 ||
        { echo "fuzz.sh: $target found something, see fuzz/$target.log" >&2; exit 1; }
    awk -v target="$target" '
        $1 == "stat::number_of_executed_units:" { runs = $2 }
        $1 == "stat::average_exec_per_sec:" { rate = $2 }
        / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1) }
        END { printf "%s: %s executions, %s a second, %s edges, nothing found\n",
              target, runs, rate, cov }' "fuzz/$target.log"
done
