#!/bin/sh
# acceptance.sh - every checkpoint of a folder, by every shipped recipe, in both layouts: quantized,
# verified against its source, and shown to whatever other judges are at hand.
#
#   tools/acceptance.sh [-k] FOLDER [WORK]
#
# FOLDER holds checkpoints, one a folder; WORK takes the results (a temporary folder unless told).
# -k keeps the quantized checkpoints there.  One line a cell is printed, then a summary; the
# messages of what failed are in WORK/log.  Exit status: 0 when no cell failed, 1 otherwise.
#
# Environment:
#   TOMBAC       the program [build/tombac beside this folder, else tombac on PATH]
#   RECIPES      names or files of recipes [all of recipes/]
#   LAYOUTS      [modelopt compressed-tensors]
#   LOAD_CHECK   command that judges a quantized checkpoint: run with OUT --source SOURCE behind it
#   VLLM_CHECK, SGLANG_CHECK   the same, run with OUT alone
# A command's exit status 0 means accepted.
#
# A cell's words: ok, FAIL, refused (the recipe or layout cannot do this: exit status 64), plain
# (nothing was quantized, so there is nothing to judge), - (not asked).
set -u
top=$(cd "$(dirname "$0")/.." && pwd)

usage() {
    sed -n 's/^# \{0,1\}//; 2,/^set -u/p' "$0" | sed '/^set -u/d' >&2
    exit 64
}

keep=
[ "${1:-}" = -k ] && { keep=1; shift; }
[ $# -ge 1 ] && [ $# -le 2 ] && [ -d "$1" ] || usage
folder=$1
made=
if [ $# -eq 2 ]; then
    work=$2
    mkdir -p "$work" || exit 73
else
    work=$(mktemp -d) || exit 73
    made=1
fi

if [ -z "${TOMBAC:-}" ]; then
    TOMBAC=$top/build/tombac
    [ -x "$TOMBAC" ] || TOMBAC=tombac
fi
"$TOMBAC" --version >/dev/null 2>&1 || { echo "$0: no tombac: build it, or set TOMBAC" >&2; exit 69; }
[ -n "${RECIPES:-}" ] || RECIPES=$(for r in "$top"/recipes/*.ini; do echo "$r"; done)
LAYOUTS=${LAYOUTS:-modelopt compressed-tensors}
log=$work/log
mkdir -p "$log" || exit 73

cells=0 failed=0 refused=0 plain=0

# judge COMMAND NAME ARGUMENTS...: sets $word.
judge() {
    command=$1 name=$2
    shift 2
    word=-
    [ -n "$command" ] || return 0
    # shellcheck disable=SC2086 # a command with its own arguments is meant
    if $command "$@" >"$log/$cell.$name" 2>&1; then
        word=ok
        rm -f "$log/$cell.$name"
    else
        word=FAIL
        bad=1
    fi
}

line() { printf '%-20s %-20s %-18s %-8s %-7s %-6s %-5s %s\n' "$@"; }

# one SOURCE RECIPE LAYOUT
one() {
    checkpoint=$(basename "$1") title=$(basename "$2" .ini)
    cell=$checkpoint.$title.$3
    out=$work/$cell
    bad=
    cells=$((cells + 1))
    rm -rf "$out"
    "$TOMBAC" quantize "$1" --recipe "$2" --layout "$3" -o "$out" -q >"$log/$cell.quantize" 2>&1
    status=$?
    if [ $status = 64 ]; then
        refused=$((refused + 1))
        line "$checkpoint" "$title" "$3" refused - - - -
        return
    fi
    if [ $status != 0 ]; then
        failed=$((failed + 1))
        line "$checkpoint" "$title" "$3" FAIL - - - -
        return
    fi
    rm -f "$log/$cell.quantize"
    judge "$TOMBAC verify -q --against" verify "$1" "$out"
    verify=$word
    if grep -q '"quantization_config"' "$out/config.json"; then
        judge "${LOAD_CHECK:-}" load "$out" --source "$1"
        load=$word
        judge "${VLLM_CHECK:-}" vllm "$out"
        vllm=$word
        judge "${SGLANG_CHECK:-}" sglang "$out"
        line "$checkpoint" "$title" "$3" ok "$verify" "$load" "$vllm" "$word"
    else
        plain=$((plain + 1))
        line "$checkpoint" "$title" "$3" plain "$verify" - - -
    fi
    [ -z "$bad" ] || failed=$((failed + 1))
    [ -n "$keep" ] || rm -rf "$out"
}

line checkpoint recipe layout quantize verify load vllm sglang
for source in "$folder"/*/; do
    source=${source%/}
    [ -f "$source/config.json" ] || continue
    for recipe in $RECIPES; do
        # shipped ones from beside this script, wherever the program lies
        [ ! -f "$top/recipes/$recipe.ini" ] || recipe=$top/recipes/$recipe.ini
        for layout in $LAYOUTS; do
            one "$source" "$recipe" "$layout"
        done
    done
done

[ $cells -gt 0 ] || { echo "$0: $folder holds no checkpoints" >&2; exit 66; }
echo
echo "$cells cells: $((cells - failed - refused - plain)) ok, $failed failed, $refused refused, $plain with nothing quantized"
[ $failed = 0 ] && [ -n "$made" ] && [ -z "$keep" ] && rm -rf "$work"
[ $failed = 0 ] || { echo "messages: $log"; exit 1; }
