/* rope.c - rope_parameters (or rope_scaling with rope_theta) to one frequency a pair.
 *
 * The arithmetic is float32 where transformers has float32 tensors and double where it has Python
 * numbers, so that angles of late positions agree to the last bits. */
#include "config.h"
#include "moe/infer/rope.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    tmb_rope_kind kind;
} kinds[] = {
    {"default", TMB_ROPE_DEFAULT}, {"linear", TMB_ROPE_LINEAR}, {"dynamic", TMB_ROPE_DYNAMIC},
    {"yarn", TMB_ROPE_YARN},       {"llama3", TMB_ROPE_LLAMA3},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* gpt-oss's scaling when config.json tells of none (transformers, configuration_gpt_oss.py); it
 * does not round the corners of the ramp. */
enum { OWN_FACTOR = 32, OWN_LENGTH = 4096 };

static const double PI = 3.14159265358979323846;

/* The object that holds the scaling's keys; both spellings may be there, the old one goes first. */
static const tmb_json *parameters(tmb_keys *text)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    for (int i = 0; i < 2; i++) {
        const tmb_json *v = tmb_json_get(text->in, keys[i]);
        if (!v || tmb_json_is_null(v)) continue;
        if (!tmb_json_is_object(v)) {
            tmb_keys_fail(text, TMB_EDATA, keys[i], "must be an object");
            return NULL;
        }
        if (tmb_json_size(v)) return v;
    }
    return NULL;
}

static tmb_rope_kind kind_of(tmb_keys *p)
{
    const char *name = tmb_key_text(p, "rope_type");
    if (!name) name = tmb_key_text(p, "type");
    if (!name) {
        /* A table for each kind of layer has objects where names should be. */
        void *it = NULL;
        const char *key;
        const tmb_json *v;
        while (p->in && tmb_json_next(p->in, &it, &key, &v))
            if (tmb_json_is_object(v))
                tmb_keys_fail(p, TMB_EUNAVAILABLE, key,
                              "rotary positions that differ by kind of layer are not run yet");
        return TMB_ROPE_DEFAULT;
    }
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(kinds[i].name, name)) return kinds[i].kind;
    tmb_keys_fail(p, TMB_EUNAVAILABLE, "rope_type",
                  "'%.60s' is not run yet; default, linear, dynamic, yarn and llama3 are", name);
    return TMB_ROPE_DEFAULT;
}

/* A key of the scaling, else of the whole text config. */
static double either(tmb_keys *p, tmb_keys *text, const char *key, double low, double high,
                     double otherwise)
{
    double outer = tmb_key_number(text, key, low, high, otherwise);
    return p->in ? tmb_key_number(p, key, low, high, outer) : outer;
}

static size_t turning(const tmb_config *c, tmb_keys *p, tmb_keys *text, size_t head)
{
    if (c->rules->partial == TMB_PARTIAL_NONE) return head;
    int64_t dims = 0;
    if (c->rules->partial == TMB_PARTIAL_ROTARY_DIM)
        dims = tmb_key_integer(text, "rotary_dim", 0, (int64_t)head, 0);
    if (dims) return (size_t)dims;
    double part = c->rules->partial == TMB_PARTIAL_HALF      ? 0.5
                  : c->rules->partial == TMB_PARTIAL_QUARTER ? 0.25
                                                             : 1;
    part = either(p, text, "partial_rotary_factor", 0, 1, part);
    return (size_t)((double)head * part);
}

static double mscale(double factor, double by)
{
    return factor <= 1 ? 1 : 0.1 * by * log(factor) + 1;
}

/* Where the ramp between the scaled and the unscaled frequencies stands: the dimension that turns
 * `turns` times within the original length. */
static double corner(double turns, double dims, double theta, double length)
{
    return dims * log(length / (turns * 2 * PI)) / (2 * log(theta));
}

static void yarn(tmb_rope *r, tmb_keys *p, double theta, double factor, double length)
{
    double dims = (double)r->dims;
    double fast = tmb_key_number(p, "beta_fast", 0, 1e9, 0),
           slow = tmb_key_number(p, "beta_slow", 0, 1e9, 0);
    double all = tmb_key_number(p, "mscale_all_dim", 0, 1e3, 0),
           one = tmb_key_number(p, "mscale", 0, 1e3, 0);
    double own = one && all ? mscale(factor, one) / mscale(factor, all) : mscale(factor, 1);
    r->factor = (float)tmb_key_number(p, "attention_factor", 0, 1e6, own);

    double low = corner(fast ? fast : 32, dims, theta, length);
    double high = corner(slow ? slow : 1, dims, theta, length);
    if (tmb_key_bool(p, "truncate", p->in != NULL)) low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, dims - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < r->dims / 2; i++) {
        float ramp = ((float)i - (float)low) / (float)(high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        float keep = 1 - ramp, plain = r->inv_freq[i];
        float scaled = 1 / ((float)factor * (1 / plain));
        r->inv_freq[i] = scaled * (1 - keep) + plain * keep;
    }
}

static void llama3(tmb_rope *r, tmb_keys *p, double factor, double length)
{
    double low = tmb_key_number(p, "low_freq_factor", 1e-6, 1e9, NAN);
    double high = tmb_key_number(p, "high_freq_factor", 1e-6, 1e9, NAN);
    if (high <= low) {
        tmb_keys_fail(p, TMB_EDATA, "high_freq_factor", "must be above low_freq_factor");
        return;
    }
    for (size_t i = 0; i < r->dims / 2; i++) {
        float f = r->inv_freq[i], wave = (float)(2 * PI) / f;
        float smooth = ((float)length / wave - (float)low) / (float)(high - low);
        if (wave > (float)(length / low))
            f = f / (float)factor;
        else if (wave >= (float)(length / high))
            f = (1 - smooth) * f / (float)factor + smooth * f;
        r->inv_freq[i] = f;
    }
}

void tmb_rope_read(tmb_config *c, tmb_rope *r, tmb_keys *text, size_t head,
                   const tmb_rope_told *told)
{
    tmb_keys p = {
        .in = parameters(text), .file = text->file, .err = text->err, .status = text->status};
    bool own = !p.in && c->rules->yarn_unless_told;
    r->kind = told->plain ? TMB_ROPE_DEFAULT : own ? TMB_ROPE_YARN : kind_of(&p);
    r->dims = turning(c, &p, text, head);
    r->paired = tmb_key_switch(text, &c->rules->paired);
    r->factor = 1;
    r->softmax_factor = 1;
    double theta = either(&p, text, told->theta, 1 + 1e-9, 1e30, told->usual);
    double length = (double)tmb_key_integer(&p, "original_max_position_embeddings", 1, 1 << 30,
                                            own ? OWN_LENGTH : (int64_t)c->max_positions);
    length = tmb_key_number(text, "original_max_position_embeddings", 1, 1 << 30, length);
    double factor = r->kind == TMB_ROPE_DEFAULT
                        ? 1
                        : tmb_key_number(&p, "factor", 1e-6, 1e9, own ? OWN_FACTOR : 0);
    if (!p.status) p.status = text->status;
    if (!p.status && (r->dims % 2 || !r->dims))
        tmb_keys_fail(&p, TMB_EDATA, "rope",
                      "%zu dimensions of a head of %zu turn; they turn in pairs", r->dims, head);
    if (!p.status && r->kind >= TMB_ROPE_YARN && !length)
        tmb_keys_fail(&p, TMB_EDATA, "original_max_position_embeddings", "missing; %s needs it",
                      r->kind == TMB_ROPE_YARN ? "yarn" : "llama3");
    if (!p.status && r->kind == TMB_ROPE_YARN && !factor && c->max_positions)
        factor = (double)c->max_positions / length;
    if (!p.status && !factor)
        tmb_keys_fail(&p, TMB_EDATA, "factor", "missing; this rope_type needs it");
    r->inv_freq = p.status ? NULL : tmb_arena_alloc(&c->arena, r->dims / 2 * sizeof *r->inv_freq);
    if (!p.status && !r->inv_freq) p.status = tmb_fail_memory(p.err, r->dims, "rotary frequencies");
    for (size_t i = 0; !p.status && i < r->dims / 2; i++) {
        float power = (float)pow((double)(float)theta, (double)((float)(2 * i) / (float)r->dims));
        r->inv_freq[i] = 1 / power;
        if (r->kind == TMB_ROPE_LINEAR) r->inv_freq[i] /= (float)factor;
    }
    if (!p.status && r->kind == TMB_ROPE_YARN) yarn(r, &p, theta, factor, length);
    if (!p.status && r->kind == TMB_ROPE_LLAMA3) llama3(r, &p, factor, length);
    if (!p.status && r->kind != TMB_ROPE_DEFAULT && c->rules->attention == TMB_ATTENTION_MLA) {
        double all = tmb_key_number(&p, "mscale_all_dim", 0, 1e3, 0);
        if (all) r->softmax_factor = mscale(factor, all) * mscale(factor, all);
    }
    if (told->even) r->factor = 1;
    text->status = p.status;
}
