#!/bin/sh
# check.sh - everything that must hold before a change is taken, from a fresh clone.
#
#   sh tools/check.sh          all of it
#   sh tools/check.sh --quick  one build and its tests
#
# Installs what is missing from Debian's packages, then builds with -Werror and runs the tests, the
# same with sanitizers, compiles with clang where there is one, and makes and tests a release
# (make distcheck).  All of it stays in ./build.  The last line is: N passed, N failed, N skipped.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
build=$top/build
. "$top/tools/common.sh"
quick=${1:-}
passed=0 failed=0 skipped=0

count() { # results of the tests in FOLDER: each line of a .trs file is one
    results=$(find "$1" -name '*.trs' -exec grep -h '^:test-result:' {} +)
    p=$(printf '%s\n' "$results" | grep -c ': PASS\|: XFAIL')
    s=$(printf '%s\n' "$results" | grep -c ': SKIP')
    f=$(printf '%s\n' "$results" | grep -c ': FAIL\|: ERROR\|: XPASS')
    passed=$((passed + p)) skipped=$((skipped + s)) failed=$((failed + f))
    say "   $p passed, $f failed, $s skipped"
}

step() { say "== $*"; }

one() { # DESCRIPTION STATUS: a step that passes or fails as a whole
    if [ "$2" = 0 ]; then passed=$((passed + 1)); say "   passed"
    else failed=$((failed + 1)); say "   FAILED: $1"; fi
}

tested_build() { # FOLDER options: build, make check, count
    folder=$1
    if ! build_in "$@"; then
        one "the build in $folder; see its make.log" 1
        return
    fi
    find "$folder" -name '*.trs' -exec rm -f {} +
    before=$failed
    make -C "$folder" -j "$(processors)" check >"$folder/check.log" 2>&1
    status=$?
    count "$folder"
    grep -h '^:test-result: \(FAIL\|ERROR\)' $(find "$folder" -name '*.trs') /dev/null |
        sed 's/^:test-result:/  /'
    # make may fail without a failed test: a test program that does not compile
    if [ $status != 0 ] && [ "$failed" = "$before" ]; then
        tail -n 20 "$folder/check.log"
        one "make check in $folder" $status
    fi
}

install_missing
make_configure

step "gcc, -Werror: build and tests"
tested_build "$build" --enable-werror
if [ "$quick" != --quick ]; then
    step "address and undefined-behaviour sanitizers: build and tests"
    tested_build "$build/sanitize" --enable-werror --enable-sanitize --without-cuda --without-mpi

    step "clang, -Werror: build"
    if command -v clang >/dev/null 2>&1 && echo 'int main(void){return 0;}' |
        clang -fopenmp -x c - -o "$build/clang-probe" 2>/dev/null; then
        build_in "$build/clang" CC=clang --enable-werror --without-cuda --without-mpi
        one "the build with clang; see $build/clang/make.log" $?
    else
        skipped=$((skipped + 1))
        say "   skipped: no clang with OpenMP here"
    fi

    step "a release: make distcheck"
    make -C "$build" -j "$(processors)" distcheck >"$build/distcheck.log" 2>&1
    status=$?
    [ $status = 0 ] || grep -E '^(FAIL|ERROR)|not ok|error:|Error|ERROR:' "$build/distcheck.log" | head -n 20
    one "make distcheck; see $build/distcheck.log" $status
    rm -f "$build"/tombac-*.tar.xz
fi
say "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
