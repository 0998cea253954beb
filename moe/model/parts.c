/* parts.c - name endings, and tensors grouped by what stands before them. */
#include "config.h"
#include "moe/model/parts.h"
#include "moe/model/model.h"

#include <stdlib.h>
#include <string.h>

/* Endings of the last dotted part: a whole part (".weight") or, of stacks, its tail ("_blocks"). */
static const struct {
    const char *text;
    tmb_kind kind;
} endings[] = {
    {".weight", TMB_KIND_WEIGHT},
    {".weight_packed", TMB_KIND_PACKED},
    {".weight_scale", TMB_KIND_SCALE},
    {".weight_scale_inv", TMB_KIND_SCALE_INV},
    {".weight_scale_2", TMB_KIND_SCALE_2},
    {".weight_global_scale", TMB_KIND_GLOBAL},
    {".input_scale", TMB_KIND_INPUT},
    {".input_global_scale", TMB_KIND_INPUT_GLOBAL},
    {".weight_shape", TMB_KIND_SHAPE},
    {".scale", TMB_KIND_SCALE_SHORT},
    {"_blocks", TMB_KIND_BLOCKS},
    {"_scales", TMB_KIND_SCALES},
    {"_weight_scale", TMB_KIND_SCALE},
    {"_weight_scale_inv", TMB_KIND_SCALE_INV},
    {"_scale_inv", TMB_KIND_SCALE_INV},
    {"_weight_scale_2", TMB_KIND_SCALE_2},
    {"_input_scale", TMB_KIND_INPUT},
    {".qweight", TMB_KIND_FOREIGN},
    {".scales", TMB_KIND_SCALES},
    {".qzeros", TMB_KIND_ZERO},
    {".g_idx", TMB_KIND_ZERO},
    {".weight_zero_point", TMB_KIND_ZERO},
    {".weight_g_idx", TMB_KIND_ZERO},
    {".pre_quant_scale", TMB_KIND_ZERO},
};
enum { ENDINGS = sizeof endings / sizeof *endings };

size_t tmb_kind_of(const char *name, tmb_kind *kind)
{
    size_t n = strlen(name);
    const char *dot = strrchr(name, '.');
    for (int i = 0; i < ENDINGS; i++) {
        size_t tail = strlen(endings[i].text);
        if (tail >= n || memcmp(name + n - tail, endings[i].text, tail) != 0) continue;
        /* "x_scale_inv" must not be taken for the tail of ".weight_scale_inv". */
        if (*endings[i].text == '_' && dot && name + n - tail <= dot + 1) continue;
        *kind = endings[i].kind;
        return n - tail;
    }
    *kind = TMB_KIND_BARE;
    return n;
}

const char *tmb_kind_ending(tmb_kind kind)
{
    if (kind == TMB_KIND_BARE) return "weight";
    for (int i = 0; i < ENDINGS; i++)
        if (endings[i].kind == kind) return endings[i].text + 1;
    return "?";
}

tmb_status tmb_modules_group(tmb_modules *out, const tmb_checkpoint *ckpt, tmb_err *err)
{
    tmb_modules m = {0};
    size_t n = ckpt->n_tensors, capacity = 0;
    m.next = malloc((n + 1) * sizeof *m.next);
    m.kinds = malloc(n + 1);
    if (!m.next || !m.kinds) goto no_memory;
    for (size_t i = 0; i < n; i++) {
        tmb_kind kind;
        bool is_new;
        size_t length = tmb_kind_of(ckpt->tensors[i].name, &kind);
        int64_t at = tmb_words_add(&m.names, ckpt->tensors[i].name, length, &is_new);
        if (at < 0) goto no_memory;
        if (m.names.capacity > capacity) {
            uint32_t *grown = realloc(m.first, m.names.capacity * sizeof *m.first);
            if (!grown) goto no_memory;
            m.first = grown;
            capacity = m.names.capacity;
        }
        m.kinds[i] = (uint8_t)kind;
        m.next[i] = is_new ? TMB_NO_TENSOR : m.first[at];
        m.first[at] = (uint32_t)i;
    }
    *out = m;
    return TMB_OK;
no_memory:
    tmb_modules_free(&m);
    return tmb_fail_memory(err, n * 16, "the inventory");
}

void tmb_modules_parts(const tmb_modules *modules, const tmb_checkpoint *ckpt, uint32_t module,
                       tmb_parts *out)
{
    *out = (tmb_parts){0};
    for (uint32_t i = modules->first[module]; i != TMB_NO_TENSOR; i = modules->next[i]) {
        out->of[modules->kinds[i]] = &ckpt->tensors[i];
        out->index[modules->kinds[i]] = i;
        out->n++;
    }
}

void tmb_modules_free(tmb_modules *modules)
{
    tmb_words_free(&modules->names);
    free(modules->first);
    free(modules->next);
    free(modules->kinds);
}
