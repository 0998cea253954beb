/* prefix.c - under which prefix the text model lies. */
#include "config.h"
#include "moe/model/match_rows.h"

#include <stdlib.h>
#include <string.h>

static bool fits(const char *prefix, const tmb_checkpoint *ckpt)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < ckpt->n_tensors; i++)
        if (strncmp(ckpt->tensors[i].name, prefix, n) == 0 &&
            strncmp(ckpt->tensors[i].name + n, "layers.", 7) == 0)
            return true;
    return false;
}

/* Length of what stands before the part before the first number: "model." of "model.layers.0.x".
 * -1 when the name has no number. */
static int64_t stem(const char *name)
{
    size_t before = 0, last = 0;
    for (const char *at = name;;) {
        const char *dot = strchr(at, '.');
        if (!dot) return -1;
        size_t n = (size_t)(dot - at);
        if (n && strspn(at, "0123456789") == n) return at == name ? -1 : (int64_t)before;
        before = last;
        last = (size_t)(dot + 1 - name);
        at = dot + 1;
    }
}

/* Experts weigh more than any number of tower layers. */
static tmb_status guess(const char **out, const tmb_checkpoint *ckpt, tmb_arena *arena,
                        tmb_err *err)
{
    tmb_words stems = {0};
    uint64_t *weight = NULL;
    tmb_status status = TMB_OK;
    uint32_t capacity = 0;
    for (size_t i = 0; i < ckpt->n_tensors; i++) {
        const char *name = ckpt->tensors[i].name;
        int64_t n = stem(name);
        if (n < 0 || strstr(name, "mtp")) continue;
        bool is_new;
        int64_t at = tmb_words_add(&stems, name, (size_t)n, &is_new);
        if (at >= 0 && (uint32_t)at >= capacity) {
            capacity = stems.capacity;
            uint64_t *grown = realloc(weight, capacity * sizeof *weight);
            if (grown)
                weight = grown;
            else
                at = -1;
        }
        if (at < 0) {
            status = tmb_fail_memory(err, capacity, "names of the inventory");
            goto out;
        }
        if (is_new) weight[at] = 0;
        weight[at] += strstr(name, "expert") ? 1u << 20 : 1;
    }
    uint32_t best = 0;
    for (uint32_t i = 1; i < stems.n; i++)
        if (weight[i] > weight[best]) best = i;
    *out = stems.n ? tmb_arena_text(arena, stems.names[best].text, stems.names[best].length) : "";
    if (!*out) status = tmb_fail_memory(err, 1, "names of the inventory");
out:
    free(weight);
    tmb_words_free(&stems);
    return status;
}

tmb_status tmb_prefix_find(const char **out, const tmb_arch *arch, const tmb_checkpoint *ckpt,
                           tmb_arena *arena, tmb_err *err)
{
    for (const char *const *p = arch->prefixes; *p; p++) {
        if (!fits(*p, ckpt)) continue;
        *out = *p;
        return TMB_OK;
    }
    return guess(out, ckpt, arena, err);
}
