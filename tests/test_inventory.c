/* test_inventory.c - the inventory of what no table knows: odd names, stacks that lie the other way
 * round, damaged parts, very many tensors. */
#include "config.h"
#include "moe/model/model.h"
#include "tests/header_model.h"
#include "tests/tap.h"

#include <time.h>

static tmb_role role_of(const opened *o, const char *name)
{
    const tmb_unit *u = tmb_model_find(o->model, name);
    return u ? u->role : TMB_ROLES;
}

static void check_odd_names(void)
{
    opened o;
    ok(open_folder(&o, invent("{\"model_type\": \"odd\", \"n_experts\": 2, \"n_embd\": 64}",
                              "transformer.wte.weight BF16 100,64\n"
                              "transformer.ln_f.weight BF16 64\n"
                              "lm_head.weight BF16 100,64\n"
                              "transformer.h.0.attn.c_attn.weight BF16 192,64\n"
                              "transformer.h.0.moe.selector.weight BF16 2,64\n"
                              "transformer.h.0.moe.experts.0.w_gate.weight BF16 32,64\n"
                              "transformer.h.0.moe.experts.0.w_up.weight BF16 32,64\n"
                              "transformer.h.0.moe.experts.0.w_down.weight BF16 64,32\n"
                              "transformer.h.0.moe.experts.1.w_gate.weight BF16 32,64\n"
                              "transformer.h.0.moe.experts.1.w_up.weight BF16 32,64\n"
                              "transformer.h.0.moe.experts.1.w_down.weight BF16 64,32\n"
                              "transformer.h.1.mlp.gate.weight BF16 96,64\n"
                              "transformer.h.1.mlp.up.weight BF16 96,64\n"
                              "transformer.h.1.mlp.down.weight BF16 64,96\n"
                              "vision.blocks.0.attn.qkv.weight BF16 96,32\n"
                              "strange.weight BF16 8,8\n")),
       "an odd architecture opens %s", o.err.message);
    ok(strcmp(o.model->prefix, "transformer.") == 0, "its prefix is found where the experts are");
    ok(role_of(&o, "transformer.wte") == TMB_ROLE_EMBEDDING &&
           role_of(&o, "transformer.ln_f") == TMB_ROLE_NORM &&
           role_of(&o, "lm_head") == TMB_ROLE_LM_HEAD &&
           role_of(&o, "transformer.h.0.attn.c_attn") == TMB_ROLE_ATTENTION &&
           role_of(&o, "transformer.h.0.moe.experts.1.w_up") == TMB_ROLE_EXPERT &&
           role_of(&o, "vision.blocks.0.attn.qkv") == TMB_ROLE_VISION,
       "roles by common names");
    ok(role_of(&o, "transformer.h.0.moe.selector") == TMB_ROLE_ROUTER &&
           tmb_model_find(o.model, "transformer.h.0.moe.selector")->keep,
       "a router under a strange name is told by its rows");
    ok(role_of(&o, "transformer.h.1.mlp.gate") == TMB_ROLE_DENSE_MLP,
       "the gate of a dense MLP is no router");
    ok(role_of(&o, "strange") == TMB_ROLE_OTHER && noted(o.model, "unknown purpose (strange"),
       "what nobody knows is kept and named");
    ok(tmb_model_find(o.model, "transformer.h.1.mlp.up")->layer == 1 &&
           tmb_model_find(o.model, "vision.blocks.0.attn.qkv")->layer == -1,
       "layers are numbered in the text model alone");
    close_folder(&o);

    ok(open_folder(&o, invent("{}", "layers.0.mlp.experts.0.w1.weight BF16 32,64\n"
                                    "layers.0.mlp.gate.weight BF16 2,64\n"
                                    "layers.1.eh_proj.weight BF16 64,128\n"
                                    "layers.1.mlp.experts.0.w1.weight BF16 32,64\n")),
       "no model_type, no prefix %s", o.err.message);
    ok(role_of(&o, "layers.1.mlp.experts.0.w1") == TMB_ROLE_MTP && o.model->n_layers == 1,
       "eh_proj tells the MTP layer when the config does not");
    close_folder(&o);
}

static void check_stacks(void)
{
    const tmb_unit *u;
    opened o;
    ok(open_folder(&o, invent("{\"model_type\": \"qwen3_vl_moe_text\", \"num_experts\": 3, "
                              "\"hidden_size\": 64, \"moe_intermediate_size\": 48}",
                              "model.layers.0.mlp.experts.gate_up_proj BF16 3,96,64\n"
                              "model.layers.0.mlp.experts.down_proj BF16 3,64,48\n")),
       "stacks the other way round than the table says %s", o.err.message);
    u = tmb_model_find(o.model, "model.layers.0.mlp.experts.2.up_proj");
    ok(u && !u->stored.transposed && u->out == 48 && u->in == 64 && u->stored.first == 48 &&
           u->stored.index == 2 && strcmp(u->disk, "model.layers.0.mlp.experts.gate_up_proj") == 0,
       "the shapes decide");
    ok(noted(o.model, "the shapes decide"), "and a note says so");
    close_folder(&o);

    /* hidden = 2 * width: gate_up is square, down decides */
    ok(open_folder(&o, invent("{\"model_type\": \"x\", \"hidden_size\": 64}",
                              "model.layers.0.moe.experts.gate_up_proj BF16 3,64,64\n"
                              "model.layers.0.moe.experts.down_proj BF16 3,32,64\n")),
       "a square stack %s", o.err.message);
    u = tmb_model_find(o.model, "model.layers.0.moe.experts.0.gate_proj");
    ok(u && u->stored.transposed && u->out == 32 && u->in == 64, "is told by its partner");
    close_folder(&o);

    ok(open_folder(
           &o, invent("{\"model_type\": \"llama4_text\", \"num_local_experts\": 2}",
                      "model.layers.0.feed_forward.experts.gate_up_proj U8 2,32,96\n"
                      "model.layers.0.feed_forward.experts.gate_up_proj_weight_scale "
                      "F8_E4M3 2,4,96\n"
                      "model.layers.0.feed_forward.experts.gate_up_proj_weight_scale_2 F32\n"
                      "model.layers.0.feed_forward.experts.gate_up_proj_input_scale F32\n"
                      "model.layers.0.feed_forward.experts.down_proj F8_E4M3 2,48,64\n"
                      "model.layers.0.feed_forward.experts.down_proj_weight_scale F32 2,1,1\n")),
       "quantized stacks %s", o.err.message);
    u = tmb_model_find(o.model, "model.layers.0.feed_forward.experts.1.up_proj");
    ok(u && u->stored.format && strcmp(u->stored.format->name, "nvfp4") == 0 &&
           u->stored.transposed && u->out == 48 && u->in == 64 && !u->broken,
       "ModelOpt's NVFP4 stack is [expert, in / 2, out]");
    u = tmb_model_find(o.model, "model.layers.0.feed_forward.experts.1.down_proj");
    ok(u && u->stored.format && strcmp(u->stored.format->name, "fp8") == 0 && !u->broken,
       "one FP8 scale an expert");
    close_folder(&o);

    ok(open_folder(&o,
                   invent("{\"model_type\": \"x\", \"moe_num_experts\": 4, \"hidden_size\": 64}",
                          "model.layers.0.moe.up_proj.weight BF16 4,32,64\n"
                          "model.layers.0.moe.down_proj.weight BF16 4,64,32\n"
                          "model.layers.0.block.input_linear.weight BF16 4,64,64\n"
                          "model.layers.0.conv.up_proj.weight BF16 64,1,4\n")),
       "stacks under strange names %s", o.err.message);
    ok(role_of(&o, "model.layers.0.moe.experts.3.up_proj") == TMB_ROLE_EXPERT &&
           role_of(&o, "model.layers.0.block.experts.3.gate_proj") == TMB_ROLE_EXPERT,
       "are experts when they have one matrix each");
    u = tmb_model_find(o.model, "model.layers.0.conv.up_proj");
    ok(u && !u->linear && !u->stacked, "a convolution is not");
    close_folder(&o);
}

static bool broken(const opened *o, const char *name, const char *words)
{
    const tmb_unit *u = tmb_model_find(o->model, name);
    bool yes = u && u->broken && strstr(u->broken, words) && u->stored.spelling == TMB_SPELL_BROKEN;
    if (!yes) printf("# %s: %s\n", name, u && u->broken ? u->broken : "not broken");
    return yes;
}

static void check_damage(void)
{
    opened o;
    ok(open_folder(
           &o,
           invent(
               "{\"model_type\": \"qwen3_moe\"}",
               "m.a.weight U8 32,32\nm.a.weight_scale BF16 32,4\nm.a.weight_scale_2 F32\n"
               "m.b.weight U8 32,32\nm.b.weight_scale F8_E4M3 32,4\n"
               "m.c.weight_scale F8_E4M3 32,4\n"
               "m.d.weight U8 32,32\n"
               "m.e.weight BF16 32,64\nm.e.weight_scale F32\n"
               "m.f.weight F8_E4M3 64,32\nm.f.weight_scale_inv F32 3,3\n"
               "m.g.qweight I32 8,64\nm.g.qzeros I32 1,8\nm.g.scales F16 1,64\nm.g.g_idx I32 64\n"
               "m.h.weight_packed I32 64,8\nm.h.weight_scale BF16 64,2\n"
               "m.h.weight_zero_point I32 8,2\n"
               "m.i.weight I8 32,32\nm.i.weight_scale F8_E4M3 32,4\nm.i.weight_scale_2 F32\n"
               "m.j.weight F8_E5M2 32,32\nm.j.weight_scale F32\n"
               "m.k.weight I64 4,4\nm.l.weight BF16 0,4\n"
               "model.layers.0.mlp.experts.gate_up_proj BF16 1000000,0,4\n")),
       "a damaged checkpoint opens %s", o.err.message);
    ok(broken(&o, "m.a", "no known format"), "block scales of the wrong type");
    ok(broken(&o, "m.b", "has no weight_scale_2"), "no second scale");
    ok(broken(&o, "m.c.weight_scale", "not there"), "a scale without a weight");
    ok(broken(&o, "m.d", "has no scale"), "packed codes without a scale");
    ok(broken(&o, "m.e", "does not belong"), "a plain weight with a scale");
    ok(broken(&o, "m.f", "no known format"), "tiles that do not fit");
    ok(broken(&o, "m.g", "AutoAWQ or GPTQ"), "foreign packing");
    ok(broken(&o, "m.h", "weight_zero_point"), "asymmetric weights");
    ok(broken(&o, "m.i", "no known format"), "packed codes as I8");
    ok(broken(&o, "m.j", "no known format"), "FP8 as E5M2");
    ok(!tmb_model_find(o.model, "m.k")->linear && !tmb_model_find(o.model, "m.k")->broken,
       "a table of integers is no Linear");
    ok(!tmb_model_find(o.model, "m.l")->linear, "an empty tensor is none");
    ok(noted(o.model, "damaged"), "and a note says so");
    uint32_t *owner = malloc((o.ckpt->n_tensors + 1) * sizeof *owner);
    ok(owners(&o, owner), "every tensor is in one unit all the same");
    free(owner);
    close_folder(&o);

    ok(!open_folder(&o,
                    invent("{}", "a.experts.w1 BF16 2,4,8\na.experts.0.w1.weight BF16 4,8\n")) &&
           o.err.status == TMB_EDATA && strstr(o.err.message, "a.experts.0.w1"),
       "two tensors for one module are refused: %s", o.err.message);
    close_folder(&o);
}

/* 369,000 tensors, as a model of 600B parameters quantized to NVFP4 has. */
static void check_speed(void)
{
    enum { LAYERS = 61, EXPERTS = 500 };
    static const char *const projections[] = {"gate_proj", "up_proj", "down_proj"};
    static const char *const parts[][2] = {{"weight", "\"U8\",\"shape\":[2,8]"},
                                           {"weight_scale", "\"F8_E4M3\",\"shape\":[2,1]"},
                                           {"weight_scale_2", "\"F32\",\"shape\":[]"},
                                           {"input_scale", "\"F32\",\"shape\":[]"}};
    static const unsigned bytes[] = {16, 2, 4, 4};
    char *header = malloc(80u << 20), *to = header, *folder = temp_folder();
    uint64_t at = 0;
    *to++ = '{';
    for (int l = 0; l < LAYERS; l++)
        for (int e = 0; e < EXPERTS; e++)
            for (int p = 0; p < 3; p++)
                for (int k = 0; k < 4; k++, at += bytes[k - 1])
                    to += sprintf(to,
                                  "%s\"model.layers.%d.mlp.experts.%d.%s.%s\":{\"dtype\":%s,"
                                  "\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                                  at ? "," : "", l, e, projections[p], parts[k][0], parts[k][1], at,
                                  at + bytes[k]);
    strcpy(to, "}");
    save_zeros(folder, header, at);
    save_text(folder, "config.json",
              "{\"model_type\": \"deepseek_v3\", \"num_hidden_layers\": 61}");
    free(header);

    opened o = {.folder = folder};
    struct timespec t0, t1;
    if (ok(tmb_checkpoint_open(&o.ckpt, folder, &o.err) == TMB_OK, "366,000 tensors %s",
           o.err.message)) {
        clock_gettime(CLOCK_MONOTONIC, &t0);
        ok(tmb_model_open(&o.model, o.ckpt, &o.err) == TMB_OK, "make an inventory");
        clock_gettime(CLOCK_MONOTONIC, &t1);
        double s = (double)(t1.tv_sec - t0.tv_sec) + 1e-9 * (double)(t1.tv_nsec - t0.tv_nsec);
        ok(o.model->n_units == LAYERS * EXPERTS * 3 && o.model->n_experts_groups == LAYERS &&
               o.model->n_fuses == LAYERS * EXPERTS && o.model->n_experts == EXPERTS,
           "of 91,500 Linears in %.3f s, %zu MiB of names and groups", s,
           o.model->arena.bytes >> 20);
        ok(s < 4, "well within the time of a plan");
    }
    close_folder(&o);
}

int main(void)
{
    check_odd_names();
    check_stacks();
    check_damage();
    check_speed();
    return done();
}
