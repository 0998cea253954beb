#!/bin/sh
# quality.sh - the tables of doc/quality.md: what scales, their search, the activation scale and
# coverage of experts do to the distance from the source.
#
#   tools/quality.sh CKPT DATA [WORK]
#
# CKPT is a BF16 checkpoint.  DATA holds calib.jsonl, lines {"input_ids":[...],"source":"NAME"}, and
# heldout_NAME.txt, text to judge by.  WORK keeps everything that was made (a temporary folder
# unless told); what is there already is not made again.  The tables are printed as Markdown.
#
# Environment:
#   TOMBAC   the program [build/tombac beside this folder, else tombac on PATH]
#   SEEDS    each chooses another SAMPLES sequences of calib.jsonl [0 1 2]
#   SAMPLES, LENGTH   sequences of a calibration, and tokens of each [128, 512]
#   ONE, FEW the source and the number of sequences of the starved calibrations [prose, 8]
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -lt 2 ] || [ $# -gt 3 ] || [ ! -f "$2/calib.jsonl" ]; then
    sed -n 's/^# \{0,1\}//; 2,/^set -eu/p' "$0" | sed '/^set -eu/d' >&2
    exit 64
fi
if [ -z "${TOMBAC:-}" ]; then
    TOMBAC=$top/build/tombac
    [ -x "$TOMBAC" ] || TOMBAC=tombac
fi
model=$1 data=$2
made=
if [ $# -eq 3 ]; then
    work=$3
    mkdir -p "$work"
else
    work=$(mktemp -d)
    made=1
fi
SEEDS=${SEEDS:-0 1 2} SAMPLES=${SAMPLES:-128} LENGTH=${LENGTH:-512} ONE=${ONE:-prose} FEW=${FEW:-8}
held=
for f in "$data"/heldout_*.txt; do
    name=${f##*/heldout_}
    held="$held --data ${name%.txt}=$f"
done

# recipe NAME SCALE [LINE OF CALIBRATION]...: routed experts in NVFP4, the rest in FP8.
recipe() {
    name=$1 scale=$2
    shift 2
    {
        printf '[recipe]\nversion = 1\n\n[rules]\n*experts* = experts\n*         = fp8\n'
        printf '\n[format experts]\nbase  = nvfp4\nscale = %s\n' "$scale"
        printf '\n[calibration]\nlength = %s\n' "$LENGTH"
        for line; do printf '%s\n' "$line"; done
    } >"$work/$name.ini"
}

# calibrated STATS RECIPE DATA
calibrated() {
    [ -f "$work/$1.h5" ] ||
        "$TOMBAC" calibrate "$model" --recipe "$work/$2.ini" --data "$3" -o "$work/$1.h5" --quiet
}

# judged NAME RECIPE [STATS]: quantize, then the distance from the source, as the formats round
# activations and with exact inputs.
judged() {
    [ -f "$work/$1/tombac.json" ] ||
        "$TOMBAC" quantize "$model" --recipe "$work/$2.ini" -o "$work/$1" --quiet \
            ${3:+--stats "$work/$3.h5"}
    for how in real exact; do
        [ -s "$work/$1.$how.json" ] && continue
        inputs=
        [ $how = real ] || inputs=--exact-inputs
        # shellcheck disable=SC2086 # lists of words are meant
        "$TOMBAC" eval "$work/$1" --against "$model" $held $inputs --quiet --json \
            >"$work/$1.$how.part"
        mv "$work/$1.$how.part" "$work/$1.$how.json"
    done
}

# figures NAME...: "KL ± STANDARD_ERROR | EXACT_KL | KL KL KL | TOP1": the mean over the seeds, the
# error that the windows leave, and each seed for itself.
figures() {
    for name; do
        for how in real exact; do # the last row of a result is that of all sources
            awk -v how=$how -F '[:,]' '
                /": [{]/ { gsub(/[" ]/, "", $1); key = $1 }
                /"mean"/ { mean[key] = $2 }
                /"standard_error"/ { error[key] = $2 }
                END { print how, mean["kl"], error["kl"], mean["same_top1"] }
            ' "$work/$name.$how.json"
        done
    done | awk '
        $1 == "real" { kl += $2; se += $3; top += $4; n++; each = each sprintf(" %.5f", $2) }
        $1 == "exact" { exact += $2 }
        END { printf "%.5f ± %.5f | %.5f |%s | %.2f", kl / n, se / n, exact / n,
              (n > 1 ? each : ""), 100 * top / n }'
}

# row TEXT NAME...
row() {
    text=$1
    shift
    printf '| %s | %s |\n' "$text" "$(figures "$@")"
}

head_of() {
    printf '\n| %s | KL, nats | KL, exact inputs | each seed | same top-1, %% |\n' "$1"
    printf '|---|--:|--:|---|--:|\n'
}

all() { # PREFIX: it with each seed behind it
    for seed in $SEEDS; do printf '%s-%s ' "$1" "$seed"; done
}

recipe cast-max max
recipe cast-mse mse
judged cast-max cast-max
judged cast-mse cast-mse
grep "\"source\": *\"$ONE\"" "$data/calib.jsonl" >"$work/$ONE.jsonl"
for seed in $SEEDS; do
    set -- "samples = $SAMPLES" "seed = $seed"
    for scale in max mse hessian; do
        recipe "$scale-$seed" $scale "$@"
        calibrated "all-$seed" "max-$seed" "$data/calib.jsonl"
        judged "$scale-$seed" "$scale-$seed" "all-$seed"
    done
    recipe "headroom-$seed" max "$@" 'act_scale = headroom'
    judged "headroom-$seed" "headroom-$seed" "all-$seed"

    set -- "samples = $FEW" "seed = $seed"
    recipe "native-$seed" hessian "$@" 'starved = peers' 'min_tokens = 1'
    recipe "drawn-$seed" hessian "$@" 'starved = peers'
    recipe "shadow-$seed" hessian "$@" 'starved = shadow' "min_tokens = $((FEW * LENGTH))"
    recipe "peers-$seed" hessian "$@" 'starved = peers' 'min_tokens = 1000000000'
    for rung in native drawn shadow peers; do
        calibrated "$rung-$seed" "$rung-$seed" "$work/$ONE.jsonl"
        judged "$rung-$seed" "$rung-$seed" "$rung-$seed"
    done
done

# shellcheck disable=SC2046 # names are words
{
    head_of 'block scales of the experts; activations'
    row '`max`; cast, no calibration' cast-max
    row '`mse`; cast, no calibration' cast-mse
    row '`max`; calibrated' $(all max)
    row '`mse`, weighted by the diagonal; calibrated' $(all mse)
    row '`hessian`; calibrated' $(all hessian)

    head_of 'global scale of activations'
    row '`act_scale = max`' $(all max)
    row '`act_scale = headroom`' $(all headroom)

    head_of "coverage: $FEW sequences of $ONE alone, \`hessian\`"
    row 'weight-only: no statistics, plain `mse`' cast-mse
    row 'native: each expert by its own tokens' $(all native)
    row 'the ladder, `min_tokens = 64`' $(all drawn)
    row 'shadow: every expert is shown all tokens' $(all shadow)
    row 'peers: every expert by the average of its layer' $(all peers)
    row "$SAMPLES sequences of all sources, for comparison" $(all hessian)
}
[ -z "$made" ] || rm -rf "$work"
