/* cmd_bench.c - tombac bench: the list of measurements.
 *
 * A measurement is one word here and one file, src/bench_WORD.c, which defines the tmb_command
 * tmb_bench_WORD, named "bench WORD", like any command.  What it measures stands below src/. */
#include "config.h"
#include "src/commands.h"

#define BENCHES X(quantize) X(calibrate) X(encode) X(gemm) X(layer)

#define X(name) extern const tmb_command tmb_bench_##name;
BENCHES
#undef X
#define X(name) &tmb_bench_##name,
static const tmb_command *const benches[] = {BENCHES NULL};
#undef X

const tmb_command tmb_command_bench = {
    .name = "bench",
    .synopsis = "WHAT [options]",
    .about = "Measure this program on this machine, against the machine's own floors",
    .help = "Every figure comes with what it is held against, measured in the same run.\n"
            "  tombac bench quantize --help\n",
    .parts = benches,
};
