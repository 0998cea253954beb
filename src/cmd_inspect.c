/* cmd_inspect.c - tombac inspect: what a checkpoint holds, and what this program was built with. */
#include "config.h"
#include "src/commands.h"
#include "src/emit.h"
#include "src/job.h"
#include "src/table.h"
#include "src/text.h"

#include "kernels/cpu/cpu.h"
#include "moe/format/formats.h"
#include "moe/layout/layouts.h"
#include "moe/model/archs.h"

#include <stdlib.h>
#include <string.h>

typedef struct options {
    tmb_common common;
    bool tensors, build;
} options;

/* Units of one role that are stored alike. */
typedef struct group {
    tmb_role role;
    const char *stored;
    uint64_t units, tensors, bytes, parameters;
} group;

enum { GROUPS_MAX = TMB_ROLES * 32 };

static const tmb_tensor *tensor_of(const tmb_model *m, const tmb_unit *u)
{
    return &m->ckpt->tensors[u->stored.part[TMB_PART_CODES]];
}

static const char *stored_as(const tmb_model *m, const tmb_unit *u)
{
    if (u->broken) return "broken";
    if (u->linear && u->stored.format) return u->stored.format->name;
    return tmb_dtype_name((tmb_dtype)tensor_of(m, u)->dtype);
}

/* Bytes and tensors of a unit; a slice of a stack counts its share, the tensor at slice 0. */
static void add_unit(const tmb_model *m, const tmb_unit *u, group *g)
{
    g->units++;
    if (u->linear) g->parameters += u->out * u->in;
    for (int p = 0; p < TMB_PARTS; p++) {
        uint32_t t = u->stored.part[p];
        if (t == TMB_NO_TENSOR) continue;
        const tmb_tensor *tensor = &m->ckpt->tensors[t];
        if (!u->stacked) {
            g->tensors++;
            g->bytes += tensor->bytes;
        } else {
            bool first = u->stored.index == 0 && u->stored.first == 0;
            g->tensors += first;
            g->bytes += first ? tensor->bytes : 0;
        }
    }
    if (!u->linear) {
        uint64_t n = 1;
        const tmb_tensor *tensor = tensor_of(m, u);
        for (int i = 0; i < tensor->rank; i++)
            n *= tensor->shape[i];
        g->parameters += n;
    }
}

static size_t group_units(const tmb_model *m, group *groups)
{
    size_t n = 0;
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        const char *stored = stored_as(m, u);
        size_t g = 0;
        while (g < n && (groups[g].role != u->role || strcmp(groups[g].stored, stored) != 0))
            g++;
        if (g == GROUPS_MAX) continue;
        if (g == n) groups[n++] = (group){.role = u->role, .stored = stored};
        add_unit(m, u, &groups[g]);
    }
    return n;
}

static int by_role(const void *a, const void *b)
{
    const group *x = a, *y = b;
    if (x->role != y->role) return x->role < y->role ? -1 : 1;
    return strcmp(x->stored, y->stored);
}

static void shape_text(const tmb_tensor *t, char *out, size_t size)
{
    size_t o = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < t->rank && o < size; i++)
        o += (size_t)snprintf(out + o, size - o, "%s%llu", i ? ", " : "",
                              (unsigned long long)t->shape[i]);
    if (o < size) snprintf(out + o, size - o, "]");
}

static void print_tensors(const tmb_checkpoint *c)
{
    char name[TMB_ERR_BYTES * 4], shape[256], bytes[TMB_HUMAN_BYTES];
    for (size_t i = 0; i < c->n_tensors; i++) {
        const tmb_tensor *t = &c->tensors[i];
        shape_text(t, shape, sizeof shape);
        printf("%-8s %10s  %s %s  %s\n", tmb_dtype_name((tmb_dtype)t->dtype),
               tmb_human_bytes(bytes, t->bytes), tmb_safe(name, sizeof name, t->name), shape,
               c->shards[t->shard].name);
    }
}

static tmb_status print_model(const tmb_model *m, const group *groups, size_t n, tmb_err *err)
{
    char line[1024], safe[TMB_ERR_BYTES], bytes[TMB_HUMAN_BYTES], count[TMB_HUMAN_BYTES];
    printf("%s: %s\n", tmb_safe(safe, sizeof safe, m->ckpt->path),
           tmb_job_about(m, line, sizeof line));
    printf("%zu tensors in %zu file%s, %s\n\n", m->ckpt->n_tensors, m->ckpt->n_shards,
           m->ckpt->n_shards == 1 ? "" : "s", tmb_human_bytes(bytes, m->ckpt->total_bytes));
    tmb_table t;
    tmb_table_open(&t, "role|stored as|>units|>tensors|>parameters|>size|<what");
    for (size_t i = 0; i < n; i++)
        tmb_table_row(&t, "%s\t%s\t%llu\t%llu\t%s\t%s\t%s", tmb_role_name(groups[i].role),
                      groups[i].stored, (unsigned long long)groups[i].units,
                      (unsigned long long)groups[i].tensors,
                      tmb_human_count(count, groups[i].parameters),
                      tmb_human_bytes(bytes, groups[i].bytes), tmb_role_about(groups[i].role));
    bool fine = tmb_table_close(&t, 0, stdout);
    for (uint32_t i = 0; i < m->n_notes; i++)
        printf("%snote: %s\n", i ? "" : "\n", tmb_safe(safe, sizeof safe, m->notes[i]));
    return fine ? TMB_OK : tmb_fail_memory(err, 0, "the table");
}

static void json_tensors(tmb_emit *e, const tmb_checkpoint *c)
{
    tmb_json *array = tmb_emit_array(e, e->root, "tensors");
    char shape[256];
    for (size_t i = 0; i < c->n_tensors; i++) {
        const tmb_tensor *t = &c->tensors[i];
        tmb_json *o = tmb_emit_item(e, array);
        tmb_emit_text(e, o, "name", t->name);
        tmb_emit_text(e, o, "dtype", tmb_dtype_name((tmb_dtype)t->dtype));
        shape_text(t, shape, sizeof shape);
        tmb_emit_text(e, o, "shape", shape);
        tmb_emit_int(e, o, "bytes", t->bytes);
        tmb_emit_text(e, o, "file", c->shards[t->shard].name);
    }
}

static tmb_status json_model(const tmb_model *m, const group *groups, size_t n, bool tensors,
                             tmb_err *err)
{
    tmb_emit e;
    tmb_emit_open(&e);
    tmb_emit_text(&e, e.root, "path", m->ckpt->path);
    tmb_emit_text(&e, e.root, "model_type", m->model_type);
    tmb_emit_text(&e, e.root, "architecture", m->arch->name);
    tmb_emit_bool(&e, e.root, "guessed", m->guessed);
    tmb_emit_int(&e, e.root, "layers", (uint64_t)m->n_layers);
    tmb_emit_int(&e, e.root, "experts", (uint64_t)m->n_experts);
    tmb_emit_int(&e, e.root, "top_k", (uint64_t)m->top_k);
    tmb_emit_int(&e, e.root, "parameters", m->parameters);
    tmb_emit_int(&e, e.root, "active_parameters", m->active_parameters);
    tmb_emit_int(&e, e.root, "files", m->ckpt->n_shards);
    tmb_emit_int(&e, e.root, "bytes", m->ckpt->total_bytes);
    tmb_json *array = tmb_emit_array(&e, e.root, "groups");
    for (size_t i = 0; i < n; i++) {
        tmb_json *o = tmb_emit_item(&e, array);
        tmb_emit_text(&e, o, "role", tmb_role_name(groups[i].role));
        tmb_emit_text(&e, o, "stored_as", groups[i].stored);
        tmb_emit_int(&e, o, "units", groups[i].units);
        tmb_emit_int(&e, o, "tensors", groups[i].tensors);
        tmb_emit_int(&e, o, "parameters", groups[i].parameters);
        tmb_emit_int(&e, o, "bytes", groups[i].bytes);
    }
    tmb_emit_append(&e, tmb_emit_array(&e, e.root, "notes"), m->notes, m->n_notes);
    if (tensors) json_tensors(&e, m->ckpt);
    return tmb_emit_print(&e, err);
}

static void print_build(void)
{
    printf("%s\n", PACKAGE_STRING);
    fputs("vectors        ", stdout);
    for (int i = 0; tmb_cpu_ops_at(i); i++)
        printf("%s%s", i ? ", " : "", tmb_cpu_ops_at(i)->name);
    printf("; %s is used here\nformats        ", tmb_cpu_ops()->name);
    for (int i = 0; tmb_format_at(i); i++)
        printf("%s%s", i ? ", " : "", tmb_format_at(i)->name);
    fputs("\nlayouts        ", stdout);
    for (int i = 0; tmb_layout_at(i); i++)
        printf("%s%s", i ? ", " : "", tmb_layout_at(i)->name);
    fputs("\narchitectures  ", stdout);
    for (int i = 0, o = 15; tmb_arch_at(i); i++) {
        const char *name = tmb_arch_at(i)->name;
        if (i && o + (int)strlen(name) > 96)
            o = printf(",\n%15s", "") - 2;
        else if (i)
            o += printf(", ");
        o += printf("%s", name);
    }
    fputs("\nlibraries      inih, jansson, libcrypto, PCRE2, OpenMP"
#ifdef HAVE_HDF5
          ", HDF5"
#endif
#ifdef HAVE_MPI
          ", MPI"
#endif
#ifdef HAVE_CUDA
          ", CUDA"
#endif
#ifdef HAVE_NCCL
          ", NCCL"
#endif
          "\n",
          stdout);
}

static tmb_status run(const tmb_command *self, int argc, char **argv, tmb_err *err)
{
    options o = {0};
    const char *operands[TMB_OPERANDS];
    TRY(tmb_args_parse(self, &o, argc, argv, operands, err));
    if (o.common.help) return TMB_OK;
    if (o.build) print_build();
    if (!operands[0] && o.build) return TMB_OK;
    if (!operands[0])
        return tmb_fail(err, TMB_EUSAGE, "no checkpoint folder given; usage: tombac %s %s",
                        self->name, self->synopsis);
    tmb_job job = {0};
    group *groups = calloc(GROUPS_MAX, sizeof *groups);
    tmb_status status = groups ? tmb_job_open(&job, operands[0], err)
                               : tmb_fail_memory(err, GROUPS_MAX * sizeof *groups, "groups");
    if (!status) {
        size_t n = group_units(job.model, groups);
        qsort(groups, n, sizeof *groups, by_role);
        if (o.common.json)
            status = json_model(job.model, groups, n, o.tensors, err);
        else if (o.tensors)
            print_tensors(job.ckpt);
        else
            status = print_model(job.model, groups, n, err);
    }
    tmb_job_close(&job);
    free(groups);
    return status;
}

static const tmb_arg args[] = {
    {"tensors", 0, TMB_ARG_FLAG, offsetof(options, tensors), NULL,
     "list every tensor: type, size, name, shape, file", NULL},
    {"build", 0, TMB_ARG_FLAG, offsetof(options, build), NULL,
     "say what this program was built with; needs no checkpoint", NULL},
    {0},
};

const tmb_command tmb_command_inspect = {
    .name = "inspect",
    .synopsis = "CKPT [--tensors] | --build",
    .about = "List what a checkpoint holds: roles, formats, sizes",
    .help = "  tombac inspect models/Qwen3-30B-A3B\n"
            "  tombac inspect models/Qwen3-30B-A3B --tensors | grep shared_expert\n",
    .operand = "checkpoint folder",
    .least = 0,
    .most = 1,
    .args = args,
    .run = run,
};
