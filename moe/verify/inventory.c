/* inventory.c - from tensor names to stored modules.
 *
 * "….q_proj.weight_scale" is part weight_scale of module "….q_proj";
 * "….experts.gate_up_proj_blocks" part _blocks of the stacked module "….experts.gate_up_proj"; a
 * name with no known last part is a bare tensor and a module of its own. */
#include "config.h"
#include "moe/verify/verify_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const part_names[TMB_VPARTS] = {
    [TMB_VP_WEIGHT] = "weight",
    [TMB_VP_PACKED] = "weight_packed",
    [TMB_VP_SCALE] = "weight_scale",
    [TMB_VP_SCALE_2] = "weight_scale_2",
    [TMB_VP_GLOBAL] = "weight_global_scale",
    [TMB_VP_SCALE_INV] = "weight_scale_inv",
    [TMB_VP_INPUT] = "input_scale",
    [TMB_VP_INPUT_GLOBAL] = "input_global_scale",
    [TMB_VP_SHAPE] = "weight_shape",
    [TMB_VP_ZERO_POINT] = "weight_zero_point",
    [TMB_VP_G_IDX] = "weight_g_idx",
    [TMB_VP_PRE_QUANT] = "pre_quant_scale",
    [TMB_VP_BLOCKS] = "blocks",
    [TMB_VP_SCALES] = "scales",
    [TMB_VP_E8M0] = "scale",
    [TMB_VP_K_SCALE] = "k_scale",
    [TMB_VP_V_SCALE] = "v_scale",
    [TMB_VP_BIAS] = "bias",
    [TMB_VP_BARE] = "",
};

const char *tmb_vpart_name(tmb_vpart part)
{
    return part_names[part];
}

static const char *find_last(const char *text, size_t n, char c)
{
    return n ? memrchr(text, c, n) : NULL;
}

/* Bytes of the module's name; *part says which part the rest is. */
static size_t split(const char *name, const tmb_tensor *t, tmb_vpart *part)
{
    size_t n = strlen(name);
    *part = TMB_VP_BARE;
    const char *dot = find_last(name, n, '.');
    if (!dot) return n;
    const char *leaf = dot + 1;
    for (int p = 0; p < TMB_VP_BARE; p++) {
        if (strcmp(leaf, part_names[p]) != 0) continue;
        if (p == TMB_VP_E8M0 && t->dtype != TMB_F8_E8M0 && t->dtype != TMB_U8) return n;
        *part = (tmb_vpart)p;
        return (size_t)(dot - name);
    }
    /* Parts of a stack hang on its name by an underscore. */
    const char *before = find_last(name, (size_t)(dot - name), '.');
    before = before ? before + 1 : name;
    if ((size_t)(dot - before) != 7 || memcmp(before, "experts", 7) != 0) return n;
    for (int p = TMB_VP_PACKED; p < TMB_VP_BARE; p++) {
        size_t k = strlen(part_names[p]), all = strlen(leaf);
        if (all > k + 1 && leaf[all - k - 1] == '_' && strcmp(leaf + all - k, part_names[p]) == 0) {
            *part = (tmb_vpart)p;
            return n - k - 1;
        }
    }
    if (t->rank == 3) *part = TMB_VP_WEIGHT; /* the stack itself */
    return n;
}

/* The number in [text, end), -1 when it is none. */
static int32_t number(const char *text, const char *end)
{
    if (text == end || end - text > 6) return -1;
    int32_t value = 0;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9') return -1;
        value = value * 10 + (*text - '0');
    }
    return value;
}

static tmb_proj guess_proj(const char *leaf)
{
    static const struct {
        const char *leaf;
        tmb_proj proj;
    } known[] = {
        {"gate_proj", TMB_PROJ_GATE}, {"w1", TMB_PROJ_GATE},        {"up_proj", TMB_PROJ_UP},
        {"w3", TMB_PROJ_UP},          {"down_proj", TMB_PROJ_DOWN}, {"w2", TMB_PROJ_DOWN},
        {"q_proj", TMB_PROJ_Q},       {"k_proj", TMB_PROJ_K},       {"v_proj", TMB_PROJ_V},
        {"o_proj", TMB_PROJ_O},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].leaf, leaf) == 0) return known[i].proj;
    return TMB_PROJ_OTHER;
}

/* Layer, expert, parent from the dotted name; role and projection from the model where it knows. */
static void place(const tmb_verifier *v, tmb_module *m)
{
    m->layer = m->expert = -1;
    m->role = TMB_ROLE_OTHER;
    const char *end = m->name + strlen(m->name), *word = m->name, *previous = NULL;
    const char *leaf = m->name;
    size_t previous_n = 0;
    for (;;) {
        const char *stop = strchr(word, '.');
        if (!stop) stop = end;
        int32_t value = previous ? number(word, stop) : -1;
        if (value >= 0 && previous_n == 7 && memcmp(previous, "experts", 7) == 0) {
            m->expert = value;
            m->parent = (uint32_t)(word - 1 - m->name);
        } else if (value >= 0 && m->layer < 0 && previous_n == 6 &&
                   memcmp(previous, "layers", 6) == 0) {
            m->layer = value;
        }
        leaf = word;
        previous = word;
        previous_n = (size_t)(stop - word);
        if (stop == end) break;
        word = stop + 1;
    }
    if (m->expert < 0) m->parent = leaf > m->name ? (uint32_t)(leaf - 1 - m->name) : 0;
    m->proj = guess_proj(leaf);
    m->unit = tmb_model_find(v->model, m->name);
    if (m->unit) {
        m->role = m->unit->role;
        if (m->unit->proj != TMB_PROJ_OTHER) m->proj = m->unit->proj;
    } else if (m->expert >= 0) {
        m->role = TMB_ROLE_EXPERT;
    } else if (strcmp(leaf, "gate") == 0 || strcmp(leaf, "router") == 0) {
        m->role = TMB_ROLE_ROUTER;
    } else if (strcmp(leaf, "lm_head") == 0) {
        m->role = TMB_ROLE_LM_HEAD;
    }
}

/* Engines build a Linear for it: two dimensions, and no table, norm or convolution. */
static bool is_linear(const tmb_verifier *v, const tmb_module *m)
{
    if (m->role == TMB_ROLE_EMBEDDING || m->role == TMB_ROLE_NORM) return false;
    if (m->part[TMB_VP_BLOCKS] != TMB_NO_TENSOR || m->part[TMB_VP_PACKED] != TMB_NO_TENSOR)
        return true;
    const tmb_tensor *w = tmb_module_part(v, m, TMB_VP_WEIGHT);
    if (!w) return m->part[TMB_VP_SCALE] != TMB_NO_TENSOR;
    if (w->rank != 2 && !(w->rank == 3 && m->stacked)) return false;
    const char *leaf = strrchr(m->name, '.');
    leaf = leaf ? leaf + 1 : m->name;
    static const char *const others[] = {"embed", "norm", "conv", "wte", "wpe"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strstr(leaf, others[i])) return false;
    return true;
}

/* Modules made from stacks have no unit of their own name: take role and experts of the first. */
static bool name_stacks(tmb_verifier *v)
{
    tmb_nameset stacks = {0};
    bool good = true;
    for (uint32_t i = 0; good && i < v->model->n_units; i++) {
        const tmb_unit *u = &v->model->units[i];
        if (u->stacked && u->disk) good = tmb_nameset_add(&stacks, u->disk, i);
    }
    tmb_nameset_sort(&stacks);
    for (uint32_t i = 0; good && i < v->n_modules; i++) {
        tmb_module *m = &v->modules[i];
        uint32_t unit = m->unit ? TMB_NO_NAME : tmb_nameset_find(&stacks, m->name);
        if (unit == TMB_NO_NAME) continue;
        m->role = v->model->units[unit].role;
        m->stacked = true;
    }
    tmb_nameset_free(&stacks);
    return good;
}

typedef struct tmb_split {
    const char *name;
    size_t n;
    uint32_t tensor;
    tmb_vpart part;
} tmb_split;

static int by_module(const void *a, const void *b)
{
    const tmb_split *x = a, *y = b;
    int order = memcmp(x->name, y->name, x->n < y->n ? x->n : y->n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

static tmb_status group(tmb_verifier *v, const tmb_split *splits, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const tmb_split *s = &splits[i];
        bool fresh = i == 0 || s->n != s[-1].n || memcmp(s->name, s[-1].name, s->n) != 0;
        if (fresh) {
            tmb_module *m = &v->modules[v->n_modules++];
            m->name = tmb_arena_text(&v->scratch, s->name, s->n);
            if (!m->name) return TMB_ESYSTEM;
            for (int p = 0; p < TMB_VPARTS; p++)
                m->part[p] = TMB_NO_TENSOR;
            m->global = m->input = m->scale_max = NAN;
        }
        tmb_module *m = &v->modules[v->n_modules - 1];
        m->part[s->part] = s->tensor;
        if (s->part == TMB_VP_WEIGHT && v->ckpt->tensors[s->tensor].name[s->n] == 0)
            m->stacked = true;
        if (s->part == TMB_VP_BLOCKS) m->stacked = true;
    }
    return TMB_OK;
}

tmb_status tmb_inventory(tmb_verifier *v, tmb_err *err)
{
    size_t n = v->ckpt->n_tensors;
    tmb_status status = TMB_OK;
    tmb_split *splits = calloc(n + 1, sizeof *splits);
    v->modules = tmb_arena_alloc(&v->scratch, (n + 1) * sizeof *v->modules);
    if (!splits || !v->modules || n >= TMB_NO_TENSOR) {
        status = tmb_fail_memory(err, (n + 1) * sizeof *v->modules, "the list of modules");
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const tmb_tensor *t = &v->ckpt->tensors[i];
        splits[i] = (tmb_split){.name = t->name, .tensor = (uint32_t)i};
        splits[i].n = split(t->name, t, &splits[i].part);
    }
    qsort(splits, n, sizeof *splits, by_module);
    bool good = group(v, splits, n) == TMB_OK;
    for (uint32_t i = 0; good && i < v->n_modules; i++) {
        place(v, &v->modules[i]);
        good = tmb_nameset_add(&v->by_name, v->modules[i].name, i);
    }
    tmb_nameset_sort(&v->by_name);
    if (!good || !name_stacks(v)) {
        status = tmb_fail_memory(err, n * sizeof *v->modules, "the list of modules");
        goto out;
    }
    for (uint32_t i = 0; i < v->n_modules; i++)
        v->modules[i].linear = is_linear(v, &v->modules[i]);
out:
    free(splits);
    return status;
}

tmb_module *tmb_module_find(const tmb_verifier *v, const char *name)
{
    uint32_t i = tmb_nameset_find(&v->by_name, name);
    return i == TMB_NO_NAME ? NULL : &v->modules[i];
}
