/* plan_files.c - deals the outputs out to shards, in order, and knows every header to the byte. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include "moe/quantize/text.h"

#include <stdlib.h>
#include <string.h>

static const char index_name[] = "model.safetensors.index.json";

static tmb_tensor as_tensor(const tmb_out *out)
{
    return (tmb_tensor){.name = out->name,
                        .shape = out->shape,
                        .bytes = out->bytes,
                        .dtype = out->dtype,
                        .rank = out->rank};
}

/* A shard being filled. */
typedef struct tmb_filling {
    uint64_t data, header; /* bytes so far; the header before its padding */
} tmb_filling;

/* A header without tensors, less its padding: what brackets and metadata take. */
static tmb_status frame_bytes(uint64_t *bytes, tmb_err *err)
{
    char *text = NULL;
    size_t n = 0;
    TRY(tmb_header_format(&text, &n, NULL, 0, "a header", err));
    while (n && text[n - 1] == ' ')
        n--;
    free(text);
    *bytes = n;
    return TMB_OK;
}

/* 8 + N of a header of this many bytes, padded as tmb_header_format() pads. */
static uint64_t file_header_bytes(uint64_t header)
{
    return 8 + tmb_ceil_div(header, 8) * 8;
}

/* What the shard would be with outs begin..end-1 appended. */
static tmb_filling fill(const tmb_plan *plan, tmb_filling f, uint32_t begin, uint32_t end)
{
    for (uint32_t i = begin; i < end; i++) {
        tmb_tensor tensor = as_tensor(&plan->outs[i]);
        f.header += tmb_header_entry_bytes(&tensor, f.data);
        f.data += plan->outs[i].bytes;
    }
    return f;
}

static bool fits(const tmb_plan *plan, const tmb_filling *f)
{
    uint64_t header = file_header_bytes(f->header);
    return header <= TMB_HEADER_MAX && header + f->data <= plan->options.shard_size;
}

static tmb_status close_file(tmb_plan *plan, uint32_t *room, const tmb_filling *f, uint32_t end,
                             tmb_err *err)
{
    if (plan->n_files == *room) {
        uint32_t more = *room ? *room * 2 : 16;
        tmb_out_file *files = tmb_arena_alloc(&plan->arena, more * sizeof *files);
        if (!files) return tmb_fail_memory(err, more * sizeof *files, "the list of shards");
        if (plan->n_files) memcpy(files, plan->files, plan->n_files * sizeof *files);
        plan->files = files;
        *room = more;
    }
    uint32_t first = plan->n_files ? plan->files[plan->n_files - 1].out_first +
                                         plan->files[plan->n_files - 1].n_outs
                                   : 0;
    plan->files[plan->n_files] = (tmb_out_file){.header_bytes = file_header_bytes(f->header),
                                                .data_bytes = f->data,
                                                .out_first = first,
                                                .n_outs = end - first};
    uint64_t begin = 0;
    for (uint32_t i = first; i < end; i++) {
        plan->outs[i].file = plan->n_files;
        plan->outs[i].begin = begin;
        begin += plan->outs[i].bytes;
    }
    plan->n_files++;
    return TMB_OK;
}

static tmb_status name_files(tmb_plan *plan, tmb_err *err)
{
    for (uint32_t i = 0; i < plan->n_files; i++) {
        plan->files[i].name = plan->n_files == 1
                                  ? tmb_arena_text(&plan->arena, "model.safetensors", 17)
                                  : tmb_arena_printf(&plan->arena, "model-%05u-of-%05u.safetensors",
                                                     i + 1, plan->n_files);
        if (!plan->files[i].name) return tmb_fail_memory(err, 64, "the list of shards");
    }
    return TMB_OK;
}

tmb_status tmb_plan_files(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint32_t room = 0;
    tmb_filling empty = {0};
    TRY(frame_bytes(&empty.header, err));
    tmb_filling now = empty;
    uint32_t begin = 0; /* of the shard being filled */
    for (uint32_t i = 0, end; i < plan->n_outs; i = end) {
        for (end = i + 1; end < plan->n_outs && plan->outs[end].joined; end++) {
        }
        tmb_filling next = fill(plan, now, i, end);
        if (!fits(plan, &next) && i > begin) {
            TRY(close_file(plan, &room, &now, i, err));
            begin = i;
            next = fill(plan, empty, i, end);
        }
        if (!fits(plan, &next) && end > i + 1) { /* too much for one shard even so: one by one */
            end = i + 1;
            plan->outs[end].joined = 0;
            next = fill(plan, empty, i, end);
        }
        now = next;
        if (plan->n_files >= 99998)
            return tmb_fail(err, TMB_EUSAGE,
                            "a shard size of %llu bytes makes more than 99999 shards; "
                            "choose a larger one",
                            (unsigned long long)plan->options.shard_size);
    }
    TRY(close_file(plan, &room, &now, plan->n_outs, err));
    return name_files(plan, err);
}

static void write_index(const tmb_plan *plan, tmb_text *text)
{
    tmb_text_printf(text,
                    "{\n  \"metadata\": {\n    \"total_size\": %llu\n  },\n  \"weight_map\": {",
                    (unsigned long long)plan->bytes_out);
    for (uint32_t i = 0; i < plan->n_outs; i++) {
        tmb_text_puts(text, i ? ",\n    " : "\n    ");
        tmb_text_json(text, plan->outs[i].name);
        tmb_text_puts(text, ": ");
        tmb_text_json(text, plan->files[plan->outs[i].file].name);
    }
    tmb_text_puts(text, "\n  }\n}\n");
}

uint64_t tmb_plan_index_bytes(const tmb_plan *plan)
{
    tmb_text text = {.measure = true};
    write_index(plan, &text);
    return text.n;
}

const char *tmb_plan_index_name(void)
{
    return index_name;
}

tmb_status tmb_plan_index_text(const tmb_plan *plan, char **out, size_t *n, tmb_err *err)
{
    tmb_text text = {0};
    write_index(plan, &text);
    return tmb_text_take(&text, out, n, index_name, err);
}
