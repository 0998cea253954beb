#include "config.h"
#include "moe/quantize/work.h"

#include "moe/quantize/bundle.h"

#include <stdlib.h>

static int by_place(const void *va, const void *vb)
{
    const tmb_piece *a = va, *b = vb;
    if (a->file != b->file) return a->file < b->file ? -1 : 1;
    if (a->out != b->out) return a->out < b->out ? -1 : 1;
    return a->begin < b->begin ? -1 : a->begin > b->begin;
}

/* Pieces of one bundle: one for each shard it writes to, at the first out there. */
static uint32_t pieces_of_bundle(const tmb_plan *plan, uint32_t b, const bool *skip, tmb_piece *to)
{
    const tmb_bundle *bundle = &plan->bundles[b];
    uint32_t n = 0;
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint32_t u = bundle->units[i];
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
            uint32_t out = plan->slots[s].out, file = plan->outs[out].file, k = 0;
            if (skip[file]) continue;
            while (k < n && to[k].file != file)
                k++;
            if (k == n) to[n++] = (tmb_piece){.file = file, .out = out, .bundle = b};
            if (out < to[k].out) to[k].out = out;
        }
    }
    return n;
}

static size_t most_pieces(const tmb_plan *plan)
{
    size_t n = 0;
    for (uint32_t i = 0; i < plan->n_outs; i++)
        if (plan->outs[i].kind == TMB_OUT_COPY)
            n += (size_t)tmb_ceil_div(plan->outs[i].bytes, TMB_PIECE_BYTES);
    /* a bundle is in one shard, and at every border between two shards one more may be in both;
     * a unit has TMB_PARTS slots at most, so no bundle is in more shards than that allows */
    for (uint32_t b = 0; b < plan->n_bundles; b++) {
        size_t slots = (size_t)plan->bundles[b].n_units * TMB_PARTS;
        n += slots < plan->n_files ? slots : plan->n_files;
    }
    return n;
}

uint64_t tmb_work_bytes(const tmb_plan *plan)
{
    uint64_t pieces = 0;
    for (uint32_t i = 0; i < plan->n_outs; i++)
        if (plan->outs[i].kind == TMB_OUT_COPY)
            pieces += tmb_ceil_div(plan->outs[i].bytes, TMB_PIECE_BYTES);
    return (pieces + 2 * (uint64_t)plan->n_bundles) * (sizeof(tmb_piece) + 1);
}

bool tmb_measured_in(const tmb_plan *plan, uint32_t u, uint32_t file)
{
    if (!plan->job.assignment->choices[u].spec->format) return false;
    for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++)
        if (plan->slots[s].part == TMB_PART_CODES && plan->outs[plan->slots[s].out].file == file)
            return true;
    return false;
}

uint64_t tmb_piece_end(const tmb_plan *plan, const tmb_piece *piece)
{
    uint64_t begin = plan->files[piece->file].header_bytes, end = 0;
    if (piece->bundle == TMB_NONE)
        return begin + plan->outs[piece->out].begin + piece->begin + piece->bytes;
    const tmb_bundle *bundle = &plan->bundles[piece->bundle];
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint32_t u = bundle->units[i];
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++) {
            const tmb_out *out = &plan->outs[plan->slots[s].out];
            if (out->file == piece->file && begin + out->begin + out->bytes > end)
                end = begin + out->begin + out->bytes;
        }
    }
    return end;
}

static bool is_known(const tmb_plan *plan, const tmb_piece *piece, const tmb_work_known *known)
{
    if (tmb_piece_end(plan, piece) > known->bytes[piece->file]) return false;
    if (piece->bundle == TMB_NONE) return true;
    const tmb_bundle *bundle = &plan->bundles[piece->bundle];
    for (uint32_t i = 0; i < bundle->n_units; i++)
        if (!known->units[bundle->units[i]] && tmb_measured_in(plan, bundle->units[i], piece->file))
            return false;
    return true;
}

static uint64_t source_bytes(const tmb_plan *plan, const tmb_piece *piece)
{
    uint64_t bytes = 0;
    if (piece->bundle == TMB_NONE) return piece->bytes;
    const tmb_bundle *bundle = &plan->bundles[piece->bundle];
    for (uint32_t i = 0; i < bundle->n_units; i++) {
        uint32_t u = bundle->units[i];
        for (uint32_t s = plan->slot_first[u]; s < plan->slot_first[u] + plan->n_slots[u]; s++)
            if (plan->slots[s].part == TMB_PART_CODES &&
                plan->outs[plan->slots[s].out].file == piece->file)
                bytes += tmb_unit_source_bytes(plan, &plan->job.model->units[u]);
    }
    return bytes;
}

/* Every piece of the shards that are not known. */
static size_t all_pieces(const tmb_plan *plan, const bool *skip, tmb_piece *to)
{
    size_t n = 0;
    for (uint32_t i = 0; i < plan->n_outs; i++) {
        const tmb_out *out = &plan->outs[i];
        if (out->kind != TMB_OUT_COPY || skip[out->file]) continue;
        for (uint64_t begin = 0; begin < out->bytes; begin += TMB_PIECE_BYTES) {
            uint64_t left = out->bytes - begin;
            to[n++] = (tmb_piece){.file = out->file,
                                  .out = i,
                                  .bundle = TMB_NONE,
                                  .begin = begin,
                                  .bytes = left < TMB_PIECE_BYTES ? left : TMB_PIECE_BYTES};
        }
    }
    for (uint32_t b = 0; b < plan->n_bundles; b++)
        n += pieces_of_bundle(plan, b, skip, &to[n]);
    return n;
}

tmb_status tmb_work_list(tmb_work *work, const tmb_plan *plan, const tmb_work_known *known,
                         tmb_err *err)
{
    *work = (tmb_work){0};
    size_t most = most_pieces(plan);
    work->left = calloc(plan->n_files + 1, sizeof *work->left);
    /* more than is used; pages that are never written to cost nothing */
    work->pieces = malloc((most + 1) * sizeof *work->pieces);
    work->done = calloc(most + 1, sizeof *work->done);
    if (!work->left || !work->pieces || !work->done) {
        tmb_work_free(work);
        return tmb_fail_memory(err, most * sizeof *work->pieces, "the list of work");
    }
    size_t n = all_pieces(plan, known->files, work->pieces);
    for (size_t i = 0; i < n; i++) {
        const tmb_piece piece = work->pieces[i];
        if (is_known(plan, &piece, known)) continue;
        work->pieces[work->n_pieces++] = piece;
        work->left[piece.file]++;
        work->read_bytes += source_bytes(plan, &piece);
    }
    qsort(work->pieces, work->n_pieces, sizeof *work->pieces, by_place);
    return TMB_OK;
}

void tmb_work_free(tmb_work *work)
{
    free(work->pieces);
    free(work->done);
    free(work->left);
    *work = (tmb_work){0};
}
