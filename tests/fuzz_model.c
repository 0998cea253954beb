/* fuzz_model - config.json with the inventory that is made of it and of a shard's names.  Whatever
 * they say, every tensor is in a unit, every unit is found, and every number points somewhere. */
#include "config.h"
#include "tests/fuzz_folder.h"

static void check_groups(const tmb_model *m)
{
    for (uint32_t i = 0; i < m->n_fuses; i++) {
        const tmb_fuse *f = &m->fuses[i];
        MUST(f->n_units > 1);
        for (uint32_t k = 0; k < f->n_units; k++)
            MUST(f->units[k] < m->n_units && m->units[f->units[k]].fuse == i &&
                 (!k || f->units[k - 1] < f->units[k]));
    }
    for (uint32_t i = 0; i < m->n_experts_groups; i++) {
        const tmb_experts *e = &m->experts[i];
        for (uint32_t k = 0; k < e->n_units; k++)
            MUST(e->units[k] < m->n_units && m->units[e->units[k]].expert >= 0);
    }
    for (uint32_t i = 0; i < m->n_notes; i++)
        MUST(m->notes[i][0]);
}

static void check(const tmb_model *m, const tmb_checkpoint *ckpt)
{
    uint8_t seen[FOLDER_TENSORS] = {0};
    for (uint32_t i = 0; i < m->n_units; i++) {
        const tmb_unit *u = &m->units[i];
        MUST(u->name && u->disk && tmb_model_find(m, u->name) == u);
        MUST(u->role < TMB_ROLES && u->layer >= -1 && u->expert >= -1);
        MUST(u->fuse == TMB_NONE || u->fuse < m->n_fuses);
        MUST(u->experts == TMB_NONE || u->experts < m->n_experts_groups);
        for (int p = 0; p < TMB_PARTS; p++) {
            uint32_t t = u->stored.part[p];
            if (t == TMB_NO_TENSOR) continue;
            MUST(t < ckpt->n_tensors);
            seen[t] = 1;
        }
    }
    for (size_t i = 0; i < ckpt->n_tensors; i++)
        MUST(seen[i]);
    check_groups(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_folder f;
    tmb_err err = {0};
    tmb_model *model = NULL;
    tmb_checkpoint *ckpt = folder_open(&f, data, size);
    if (ckpt) {
        tmb_status status = tmb_model_open(&model, ckpt, &err);
        if (status)
            MUST(status == TMB_EDATA &&
                 (strncmp(err.message, "memory", 6) == 0 ||
                  strncmp(err.message, "config.json: ", 13) == 0) &&
                 !strpbrk(err.message, "\n\033"));
        else
            check(model, ckpt);
        tmb_model_close(model);
    }
    folder_close(&f, ckpt);
    return 0;
}
