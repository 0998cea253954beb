#!/bin/sh
# large.sh - a checkpoint of a size that no test machine holds: plan it, quantize its first shards,
# calibrate some of its layers, and hold the peak of memory against the limit and against what the plan
# said.
#
#   sh tools/large.sh BUILD [FOLDER]
#
# LAYERS (3) of DeepSeek-V3 are calibrated, 61 are all; each takes about half a minute of processor
# time, because the experts that 32 tokens choose are 14 GB.
#
# BUILD is a build folder with tombac in it, FOLDER (a new one under TMPDIR) takes 100 MB of headers
# and a few GB of output, and is removed again.  The weights are holes; the names, shapes and sizes
# are those of DeepSeek-V3 with 1008 experts in a layer: 364,000 tensors in 538 shards.  The disk is
# made to look larger by a layer over statvfs(), and the run is stopped by SIGTERM behind two shards,
# as a user would.  Prints TAP.
set -u
build=$(cd "${1:?BUILD}" && pwd)
folder=${2:-$(mktemp -d)}
mkdir -p "$folder" && cd "$folder" || exit 99
trap 'cd /; rm -rf "$folder"' EXIT
limit=4194304 # KiB: what --max-ram 4G allows
n=0
ok() { # STATUS DESCRIPTION
    n=$((n + 1))
    if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}
field() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" plan.json | head -n 1; }

make -s -C "$build" tests/make_sparse || exit 99
"$build/tests/make_sparse" source 61 1008 fp8 || exit 99
cat >disk.c <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/statvfs.h>
int fstatvfs(int fd, struct statvfs *s)
{
    int (*real)(int, struct statvfs *) = (int (*)(int, struct statvfs *))dlsym(RTLD_NEXT, "fstatvfs");
    int rc = real(fd, s);
    s->f_bavail = 1ull << 40;
    return rc;
}
C
${CC:-cc} -shared -fPIC -o disk.so disk.c -ldl || exit 99

from=$(date +%s%N)
"$build/tombac" plan source --recipe nvfp4-experts --max-ram 4G --shard-size 1G --json >plan.json
ok $? "planned in $((($(date +%s%N) - from) / 1000000)) ms"
planned=$(($(field peak_memory_bytes) / 1024))
[ "$planned" -gt 0 ] && [ "$planned" -le $limit ]
ok $? "the plan says $((planned / 1024)) MiB, $((limit / 1024)) are allowed"

LD_PRELOAD=$folder/disk.so "$build/tombac" quantize source --recipe nvfp4-experts --max-ram 4G \
    --shard-size 1G -o out --progress none 2>message &
job=$!
while kill -0 $job 2>/dev/null && ! ls out/model-00002-* >/dev/null 2>&1; do
    peak=$(sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$job/status 2>/dev/null)
    [ -n "$peak" ] && most=$peak
    sleep 0.2
done
kill -TERM $job 2>/dev/null
wait $job
ls out/model-00001-* out/model-00002-* >/dev/null 2>&1
ok $? "two shards are published"
grep -q 'stopped with [0-9]* of [0-9]* shards finished' message
ok $? "$(cut -c 1-90 message) ..."
[ "${most:-0}" -gt 0 ] && [ "$most" -le "$planned" ]
ok $? "the peak was $((${most:-0} / 1024)) MiB"

# A dense layer, then 22 GB a sparse one.
layers=${LAYERS:-3}
size=$((layers < 61 ? (layers - 1) * 22 + 4 : 9999))G
"$build/tombac" bench calibrate --model deepseek-v3 --sparse --size $size --sequences 2 --length 16 \
    --max-ram 4G --dir . --progress none --json >calibrate.json
ok $? "calibrated 32 tokens of $(sed -n 's/^ *"layers": \([0-9]*\),*$/\1/p' calibrate.json) layers"
cfield() { sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" calibrate.json | head -n 1; }
peak=$(($(cfield peak_bytes) / 1024)) planned=$(($(cfield peak_planned_bytes) / 1024))
[ "$planned" -gt 0 ] && [ "$planned" -le $limit ] && [ "$peak" -gt 0 ] && [ "$peak" -le "$planned" ]
ok $? "the peak was $((peak / 1024)) MiB, $((planned / 1024)) MiB planned"
echo "1..$n"
