#!/bin/sh
# demo.sh - from a fresh clone to a quantized, verified checkpoint.
#
# Installs what is missing from Debian's packages, builds in ./build, and runs the main job on the
# small trained model of tests/data: plan, quantize, verify.  Run it as often as you like.
# TOMBAC=PROGRAM in the environment uses that program and skips installation and build.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
. "$top/tools/common.sh"

if [ -z "${TOMBAC:-}" ]; then
    install_missing
    make_configure
    say "Building in $build ..."
    build_in "$build" || die "the build failed; see $build/make.log"
    TOMBAC=$build/tombac
fi
cd "$top"
out=${1:-build/demo}
model=tests/data/tinymoe/a

show() { # the command as a user types it, then its output
    say
    say "\$ tombac $*"
    "$TOMBAC" "$@"
}
rm -rf "$out"
show plan "$model" --recipe nvfp4-experts
show quantize "$model" --recipe nvfp4-experts -o "$out"
show verify "$out" --against "$model"
say
say "The checkpoint is in $out; tombac is $TOMBAC; README.md says what to do with a model of yours."
