#!/bin/sh
# diagnose_faults.sh - what `tombac diagnose` names when one fault is planted in a checkpoint.
#
#   tools/diagnose_faults.sh [BUILD] [CKPT DATA [LAYER EXPERT]]...
#
# BUILD is a configured build folder [build beside this folder].  Each CKPT, a plain BF16 one, gets
# every fault of tests/plant_faults.h in LAYER [2] and EXPERT [5], is diagnosed against itself
# without the fault on DATA (uint16 ids), and is judged; without any CKPT the small trained model of
# tests/data.  A line a fault is printed: what was named first on either scale, and whether that is
# the fault and nothing else.  Exit status 0 when all are.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
if [ $# -gt 0 ] && [ -f "$1/config.status" ]; then build=$1; shift; fi
build=$(cd "$build" && pwd) || exit 66
make -s -C "$build" tombac tests/test_planted >/dev/null || exit 70
[ $# -gt 0 ] || set -- "$top/tests/data/tinymoe/a" "$top/tests/data/tinymoe/heldout_math.bin"
export TOMBAC="$build/tombac" TOMBAC_LONG=1 srcdir="$top"
log=$(mktemp) || exit 73
trap 'rm -f "$log"' EXIT
bad=0
while [ $# -ge 2 ]; do
    ckpt=$1 data=$2 layer=2 expert=5
    shift 2
    case "${1:-}" in
    [0-9] | [0-9][0-9]) layer=$1 expert=${2:?} && shift 2 ;;
    esac
    printf '\n%s\n' "$ckpt"
    "$build/tests/test_planted" "$ckpt" "$data" "$layer" "$expert" >"$log" || bad=1
    awk '
        function flush() {
            if (name != "") printf "%-34s %-44s %-44s %s\n", name, first["routing"], first["output"], state
        }
        BEGIN { printf "%-34s %-44s %-44s %s\n", "planted", "named on routing", "named on output", "" }
        / planted / {
            flush(); name = $0; sub(/^(not )?ok [0-9]+ - /, "", name); sub(/: planted.*/, "", name)
            first["routing"] = first["output"] = "-"; state = "good"
        }
        /^#   (routing|output): / {
            scale = $2; sub(/:/, "", scale); text = $0; sub(/^#   [a-z]+: /, "", text)
            gsub(/, (layers|experts) *,/, ",", text); sub(/, experts, effect/, ", effect", text)
            if (first[scale] == "-") first[scale] = text; else more[scale]++
        }
        /^not ok/ { state = "BAD"; sub(/^not ok [0-9]+ - [^:]*: /, ""); state = state " " $0 }
        END { flush() }' "$log"
done
exit $bad
