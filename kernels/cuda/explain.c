#include "config.h"
#include "kernels/cuda/choose.h"

#include <stdarg.h>
#include <stdio.h>

__attribute__((format(printf, 4, 5))) static void say(char *text, size_t size, size_t *at,
                                                      const char *format, ...)
{
    if (*at >= size) return;
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text + *at, size - *at, format, ap);
    va_end(ap);
    if (n > 0) *at += (size_t)n;
}

void tmb_grouped_explain(const tmb_grouped *g, const int32_t *offsets, int processors, char *text,
                         size_t size)
{
    const tmb_tiling t = tmb_choose(g, processors);
    const int widest = tmb_widest_tile(g->rows, g->experts);
    size_t at = 0;
    if (size) text[0] = '\0';
    for (int f = 0; f < TMB_FAMILIES; f++) {
        int experts = 0, tiles = 0, rows = 0;
        for (int e = 0; e < g->experts; e++) {
            int r = offsets[e + 1] - offsets[e];
            tmb_cut cut = tmb_cut_rows(r, widest);
            int n = cut.family == f ? cut.tiles : cut.family - 1 == f ? cut.smaller : 0;
            if (!n) continue;
            int wide = f < 2 ? 16 << f : 32 * f;
            int left = r - (cut.family == f ? 0 : cut.tiles * (wide + 32));
            experts++;
            tiles += n;
            rows += left < n * wide ? left : n * wide;
        }
        if (!tiles) continue;
        int block = tmb_block_rows(g, t, f), units = tiles * ((g->out_rows + block - 1) / block);
        say(text, size, &at,
            "  %d experts, %d rows: %d tiles of %d tokens by %d weight rows (%s): ", experts, rows,
            tiles, f < 2 ? 16 << f : 32 * f, block, f ? "wgmma" : "mma.sync");
        say(text, size, &at, "%d units, %.2f rounds of %d processors\n", units,
            (double)units / processors, processors);
    }
    say(text, size, &at, "  tiles of at most %d tokens: experts have %d rows in the mean\n", widest,
        g->rows / g->experts);
    if (g->pack == TMB_PACK_BF16) return;
    if (t.deep)
        say(text, size, &at, "  64-row blocks and a deep ring: at most one block a processor\n");
    else if (t.few)
        say(text, size, &at, "  64-row blocks: 256 would be less than three rounds\n");
}
