/* test_verify.c - each damage that loaders accept in silence, done to checkpoints that ModelOpt and
 * llm-compressor wrote, is found under its word; the same checkpoints undamaged pass. */
#include "config.h"
#include "moe/io/files.h"
#include "moe/verify/verify.h"
#include "tests/damage_cases.h"
#include "tests/tap.h"

#include <fcntl.h>

/* --- running ------------------------------------------------------------------------------------
 */

static char scratch[256];

static tmb_verify_report *verify(const char *dir, const char *source, int threads)
{
    tmb_err err = {0};
    tmb_checkpoint *c = NULL, *sc = NULL;
    tmb_model *m = NULL, *sm = NULL;
    tmb_verify_report *r = NULL;
    bool good = !tmb_checkpoint_open(&c, dir, &err) && !tmb_model_open(&m, c, &err);
    if (good && source)
        good = !tmb_checkpoint_open(&sc, source, &err) && !tmb_model_open(&sm, sc, &err);
    tmb_verify_options o = {.against = sm, .threads = threads, .checksums = true};
    if (!good || tmb_verify(&r, m, &o, &err)) printf("# %s\n", err.message);
    tmb_model_close(m);
    tmb_checkpoint_close(c);
    tmb_model_close(sm);
    tmb_checkpoint_close(sc);
    return r;
}

static const tmb_finding *finding(const tmb_verify_report *r, const char *word)
{
    for (uint32_t i = 0; r && i < r->n_findings; i++)
        if (r->findings[i].severity == TMB_ERROR && strcmp(r->findings[i].check, word) == 0)
            return &r->findings[i];
    return NULL;
}

static void show_errors(const tmb_verify_report *r)
{
    for (uint32_t i = 0; r && i < r->n_findings; i++)
        if (r->findings[i].severity == TMB_ERROR)
            printf("# %s %s: %s\n", r->findings[i].check, r->findings[i].where,
                   r->findings[i].text);
}

static void test_damage(const char *base, const char *base_name, const damage_case *c, bool ct)
{
    static edit e;
    job j = {&e, ct};
    bool good = edit_load(&e, base);
    if (good) c->damage(&j);
    good = good && !e.error && edit_write(&e, scratch);
    tmb_verify_report *r = good ? verify(scratch, NULL, 2) : NULL;
    const tmb_finding *f = finding(r, c->word);
    if (!ok(f != NULL, "%s: %s is found as %s", base_name, c->what, c->word)) {
        if (e.error) printf("# the damage wants %s\n", e.error);
        show_errors(r);
    }
    tmb_verify_report_close(r);
    edit_free(&e);
}

static void path_of(char *out, size_t n, const char *base)
{
    const char *src = getenv("srcdir");
    snprintf(out, n, "%s/tests/data/%s", src ? src : ".", base);
}

static void test_whole(const char *base)
{
    char path[512];
    path_of(path, sizeof path, base);
    tmb_verify_report *r = verify(path, NULL, 2);
    if (!ok(r && r->n_errors == 0 && r->n_checks > 30, "%s passes as its tool wrote it", base))
        show_errors(r);
    tmb_verify_report_close(r);
}

static void test_source(const char *base)
{
    char path[512];
    path_of(path, sizeof path, base);
    tmb_verify_report *r = verify(path, NULL, 2);
    if (!ok(r && r->n_errors == 0, "%s, a source, passes", base)) show_errors(r);
    tmb_verify_report_close(r);
}

/* --- against the source -------------------------------------------------------------------------
 */

static void copy_changed(job *j)
{
    edit_find(j->e, L0 "input_layernorm.weight")->data[3] ^= 1;
}
static void nibbles_swapped(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "codes");
    for (size_t i = 0; i < t->bytes; i++)
        t->data[i] = (uint8_t)(t->data[i] << 4 | t->data[i] >> 4);
}
static void rows_swapped(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "codes");
    size_t row = t->bytes / t->shape[0];
    uint8_t keep[512];
    memcpy(keep, t->data, row);
    memmove(t->data, t->data + row, row);
    memcpy(t->data + row, keep, row);
}
static void sign_lost(job *j)
{
    edit_tensor *t = get(j, E3 "up_proj.", "codes");
    for (size_t i = 0; i < t->bytes; i++)
        t->data[i] &= 0x77;
}
static void scale_doubled(job *j)
{
    get(j, E3 "down_proj.", "weight_scale")->data[0] += 8;
}
static void scales_wider(job *j)
{
    edit_tensor *t = get(j, E3 "down_proj.", "global");
    set_f32(t, get_f32(t) * 1.2f);
}
static void fp8_shifted(job *j)
{
    edit_tensor *t = get(j, L0 "self_attn.o_proj.", "weight");
    memmove(t->data, t->data + 1, t->bytes - 1);
}
static void tensor_lost(job *j)
{
    edit_drop(j->e, L0 "post_attention_layernorm.weight");
}
static void tensor_new(job *j)
{
    edit_add(j->e, L0 "mlp.extra.weight", TMB_BF16, 1, 8, 0, 0);
}
static void norm_f32(job *j)
{
    edit_recast(j->e, "model.norm.weight", TMB_F32, 1, 64, 0);
}

static const damage_case against[] = {
    {"copy-differs", "a norm that differs from the source", copy_changed, 3},
    {"stray-values", "swapped nibbles", nibbles_swapped, 3},
    {"stray-values", "swapped rows", rows_swapped, 3},
    {"stray-values", "lost signs", sign_lost, 3},
    {"stray-values", "a doubled block scale", scale_doubled, 3},
    {"sqnr-low", "a global scale off by a fifth", scales_wider, 3},
    {"sqnr-low", "shifted FP8 codes", fp8_shifted, 3},
    {"source-missing", "a norm that is gone", tensor_lost, 3},
    {"source-new", "a tensor the source lacks", tensor_new, 3},
    {"source-shape", "a norm of another type", norm_f32, 3},
};

static void test_against(const char *base, const char *base_name, const char *source,
                         const damage_case *c, bool ct)
{
    static edit e;
    job j = {&e, ct};
    bool good = edit_load(&e, base);
    if (good && c) c->damage(&j);
    good = good && !e.error && edit_write(&e, scratch);
    tmb_verify_report *one = good ? verify(scratch, source, 1) : NULL;
    tmb_verify_report *two = good ? verify(scratch, source, 4) : NULL;
    const char *what = c ? c->what : "nothing changed";
    if (!ok(one && (c ? finding(one, c->word) != NULL : one->n_errors == 0),
            "%s: %s, against the source", base_name, what))
        show_errors(one);
    bool same = one && two && one->n_findings == two->n_findings && one->n_worst == two->n_worst &&
                one->n_groups == two->n_groups && one->n_worst == 10;
    for (uint32_t i = 0; same && i < one->n_worst; i++)
        same = one->worst[i].sqnr_db == two->worst[i].sqnr_db &&
               !strcmp(one->worst[i].name, two->worst[i].name);
    for (uint32_t i = 0; same && i < one->n_groups; i++)
        same = memcmp(&one->groups[i].sums, &two->groups[i].sums, sizeof one->groups[i].sums) == 0;
    ok(same, "%s: %s, the same for 1 and 4 threads", base_name, what);
    tmb_verify_report_close(one);
    tmb_verify_report_close(two);
    edit_free(&e);
}

/* --- checksums ----------------------------------------------------------------------------------
 */

static bool write_summary(const edit *e, const char *extra)
{
    char hex[TMB_SHA256_HEX] = "", path[512];
    struct stat st;
    tmb_err err = {0};
    if (!edit_write(e, scratch)) return false;
    snprintf(path, sizeof path, "%s/model.safetensors", scratch);
    int fd = open(path, O_RDONLY);
    bool good = fd >= 0 && fstat(fd, &st) == 0 && !tmb_sha256_file(fd, path, hex, &err);
    if (fd >= 0) close(fd);
    tmb_json *file = tmb_json_new_object(), *files = tmb_json_new_object(),
             *all = tmb_json_new_object();
    tmb_json_set(file, "bytes", tmb_json_new_integer(good ? st.st_size : 0));
    tmb_json_set(file, "sha256", tmb_json_new_string(hex));
    tmb_json_set(files, "model.safetensors", file);
    if (extra) tmb_json_set(files, extra, tmb_json_copy(file));
    tmb_json_set(all, "files", files);
    good = good && edit_write_summary(scratch, all);
    tmb_json_free(all);
    return good;
}

static void expect(const char *word, const char *what, bool prepared)
{
    tmb_verify_report *r = prepared ? verify(scratch, NULL, 2) : NULL;
    bool found = finding(r, word) != NULL;
    ok(r && found == (*word != 0) && (found || r->n_errors == 0), "checksums: %s", what);
    ok(r && r->files_known > 0 && r->files_checked == r->files_known,
       "checksums: %s, all looked at", what);
    tmb_verify_report_close(r);
}

/* tombac.json itself, one byte after the other: what it no longer vouches for must not pass. */
static void test_summary(const edit *e)
{
    char path[512], *text = NULL;
    size_t n = 0, found = 0;
    tmb_err err = {0};
    bool good = write_summary(e, NULL);
    snprintf(path, sizeof path, "%s/tombac.json", scratch);
    good = good && !tmb_file_load(&text, &n, AT_FDCWD, path, 1 << 20, &err);
    for (size_t i = 0; good && i < n; i++) {
        text[i] ^= 1;
        good = edit_write_text(scratch, "tombac.json", text, n, "w");
        tmb_verify_report *r = verify(scratch, NULL, 1);
        found += !r || finding(r, "file-changed") != NULL; /* no JSON any more: refused whole */
        tmb_verify_report_close(r);
        text[i] ^= 1;
    }
    ok(good && found == n, "checksums: each of the %zu bytes of tombac.json guards itself", n);
    free(text);
    good = edit_write_text(scratch, "tombac.json", "{\"files\": {}}", 13, "w");
    tmb_verify_report *r = good ? verify(scratch, NULL, 1) : NULL;
    ok(finding(r, "file-changed") != NULL, "checksums: a list of no files is no pass");
    tmb_verify_report_close(r);
}

static void test_checksums(const char *base)
{
    static edit e;
    bool good = edit_load(&e, base);
    expect("", "a file as it was written passes", good && write_summary(&e, NULL));
    expect("file-missing", "a listed file is gone", good && write_summary(&e, "gone.json"));
    expect("file-missing", "a name with a path", good && write_summary(&e, "../model.safetensors"));
    good = good && write_summary(&e, NULL);
    if (good) test_summary(&e);
    good = good && write_summary(&e, NULL);
    edit_find(&e, "model.norm.weight")->data[0] ^= 1;
    expect("file-changed", "one bit differs", good && edit_write(&e, scratch));
    edit_add(&e, "model.layers.0.self_attn.sinks", TMB_F32, 1, 4, 0, 0);
    expect("file-changed", "a file has grown", good && edit_write(&e, scratch));
    edit_free(&e);
}

int main(void)
{
    static const struct {
        const char *path, *name;
        bool ct;
    } bases[] = {{"whole/qwen3_moe_modelopt", "modelopt", false},
                 {"whole/qwen3_moe_llmcompressor", "compressed-tensors", true}};
    const char *tmp = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%s/verify.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(scratch)) return 99;
    test_whole("whole/qwen3_moe_modelopt");
    test_whole("whole/qwen3_moe_llmcompressor");
    test_whole("whole/mixtral_modelopt");
    test_whole("whole/mixtral_llmcompressor");
    static const char *const sources[] = {
        "arch/deepseek_v3_fp8", "arch/deepseek_v4", "arch/gpt_oss_mxfp4", "arch/kimi_k25_int4",
        "arch/qwen3_5_moe",     "arch/llama4_mm",   "arch/minimax_m2",    "arch/nemotron_h_latent"};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        test_source(sources[i]);
    char source[512];
    path_of(source, sizeof source, "arch/qwen3_moe");
    for (size_t b = 0; b < 2; b++) {
        char path[512];
        path_of(path, sizeof path, bases[b].path);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            if (cases[i].layouts & (bases[b].ct ? 2 : 1))
                test_damage(path, bases[b].name, &cases[i], bases[b].ct);
        test_against(path, bases[b].name, source, NULL, bases[b].ct);
        for (size_t i = 0; i < sizeof against / sizeof *against; i++)
            test_against(path, bases[b].name, source, &against[i], bases[b].ct);
    }
    char path[512];
    path_of(path, sizeof path, bases[0].path);
    test_checksums(path);
    edit_remove_dir(scratch);
    return done();
}
