/* fuzz_journal - tombac.journal.  Input: the file as it is; or, behind a '!', its records without
 * their checks, which are put in front here (the record "=" stands for the plan's identity), so
 * that what lies behind the checks is reached too.  What is believed is cut off behind, read again
 * the same, and can be continued. */
#include "config.h"
#include "moe/quantize/journal.h"
#include "tests/fuzz_folder.h"

enum { JOURNAL_BYTES = 1 << 16 };

static const char checkpoint[] =
    "{\"model_type\":\"mixtral\",\"num_hidden_layers\":1,\"num_local_experts\":2,"
    "\"num_experts_per_tok\":1}\n---\n"
    "model.embed_tokens.weight BF16 8,32\n"
    "model.layers.0.block_sparse_moe.gate.weight BF16 2,32\n"
    "model.layers.0.block_sparse_moe.experts.0.w1.weight BF16 32,32\n"
    "model.layers.0.block_sparse_moe.experts.0.w2.weight BF16 32,32\n"
    "model.layers.0.block_sparse_moe.experts.0.w3.weight BF16 32,32\n"
    "model.layers.0.block_sparse_moe.experts.1.w1.weight BF16 32,32\n"
    "model.layers.0.block_sparse_moe.experts.1.w2.weight BF16 32,32\n"
    "model.layers.0.block_sparse_moe.experts.1.w3.weight BF16 32,32\n";
static const char recipe_text[] = "[recipe]\nversion = 1\n[rules]\n*experts* = nvfp4\n";

typedef struct setting {
    tmb_plan *plan;
    char *identity;
    int fd;
} setting;

static const setting *prepare(void)
{
    static setting s;
    static fuzz_folder f;
    tmb_model *model;
    tmb_recipe *recipe;
    tmb_assignment *a;
    if (s.plan) return &s;
    tmb_checkpoint *ckpt = folder_open(&f, (const uint8_t *)checkpoint, sizeof checkpoint - 1);
    tmb_plan_options options = {.threads = 1, .shard_size = 3000};
    MUST(ckpt && !tmb_model_open(&model, ckpt, NULL));
    MUST(!tmb_recipe_parse(&recipe, recipe_text, sizeof recipe_text - 1, "r", NULL));
    MUST(!tmb_assign(&a, model, recipe, NULL));
    MUST(!tmb_plan_build(&s.plan, model, recipe, a, &options, NULL));
    MUST(!tmb_journal_identity(s.plan, &s.identity, NULL));
    MUST((s.fd = memfd_create("journal", MFD_CLOEXEC)) >= 0 && s.plan->n_files > 1);
    return &s;
}

/* records, one a line, as a journal of its own checks; its length */
static size_t sign(char *out, const char *records, size_t n, const char *identity)
{
    char check[TMB_CHECK_HEX + 1] = "", both[JOURNAL_BYTES], hex[TMB_SHA256_HEX];
    size_t o = 0;
    for (const char *at = records, *end = records + n, *stop; at < end; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) break;
        bool self = stop == at + 1 && *at == '=';
        const char *text = self ? identity : at;
        size_t length = self ? strlen(identity) : (size_t)(stop - at);
        if (o + length + TMB_CHECK_HEX + 2 > JOURNAL_BYTES / 2) break;
        size_t k = strlen(check);
        memcpy(both, check, k);
        memcpy(both + k, text, length);
        MUST(!tmb_sha256(both, k + length, hex, NULL));
        memcpy(check, hex, TMB_CHECK_HEX);
        memcpy(out + o, check, TMB_CHECK_HEX);
        out[o + TMB_CHECK_HEX] = ' ';
        memcpy(out + o + TMB_CHECK_HEX + 1, text, length);
        o += TMB_CHECK_HEX + 1 + length;
        out[o++] = '\n';
    }
    return o;
}

static void check(const tmb_journal *j, const tmb_plan *plan, uint64_t n)
{
    MUST(j->end <= n && (!j->ours || j->identity));
    for (uint32_t i = 0; i < plan->n_files; i++) {
        if (!j->have[i]) continue;
        MUST(j->ours && strlen(j->sha256[i]) == TMB_SHA256_HEX - 1);
        for (uint32_t r = 0; r < plan->n_rows; r++)
            MUST(j->rows[i * plan->n_rows + r].worst == TMB_NONE ||
                 j->rows[i * plan->n_rows + r].worst < plan->job.model->n_units);
    }
    for (uint32_t i = 0; i < j->n_written; i++)
        MUST(*j->written[i] && *j->written[i] != '.' && !strpbrk(j->written[i], "/\n\033"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const setting *s = prepare();
    static char text[JOURNAL_BYTES];
    tmb_journal first, second;
    tmb_err err = {0};
    size_t n = size < sizeof text ? size : sizeof text;
    if (size && *data == '!')
        n = sign(text, (const char *)data + 1, size - 1, s->identity);
    else
        memcpy(text, data, n);
    MUST(!ftruncate(s->fd, 0) && pwrite(s->fd, text, n, 0) == (ssize_t)n);
    MUST(tmb_journal_pid(s->fd) >= 0);
    MUST(!tmb_journal_open(&first, s->fd, "f", s->plan, s->identity, &err));
    check(&first, s->plan, n);
    if (first.ours && size % 4 == 0) { /* a quarter: reading thrice makes it slow */
        uint64_t end = first.end;
        MUST(!tmb_journal_open(&second, s->fd, "f", s->plan, s->identity, &err));
        MUST(second.ours && second.end == end && second.n_written == first.n_written);
        MUST(memcmp(first.have, second.have, s->plan->n_files) == 0);
        MUST(!tmb_journal_add(&second, "file x", &err));
        tmb_journal_close(&second);
        MUST(!tmb_journal_open(&second, s->fd, "f", s->plan, s->identity, &err));
        MUST(second.end > end && second.n_written == first.n_written + 1);
        tmb_journal_close(&second);
    } else if (first.identity) {
        MUST(*tmb_journal_difference(first.identity, s->identity));
    }
    tmb_journal_close(&first);
    return 0;
}
