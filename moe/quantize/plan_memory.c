/* plan_memory.c - the formula of plan.h, and what a limit leaves of the threads. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include "moe/quantize/bundle.h"
#include "moe/quantize/work.h"

#define PROGRAM_BYTES (UINT64_C(24) << 20)

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What is held from opening the checkpoint to the end. */
static uint64_t metadata(const tmb_planner *p)
{
    const tmb_plan *plan = p->plan;
    const tmb_checkpoint *ckpt = p->ckpt;
    uint64_t bytes = 0;
    for (size_t i = 0; i < ckpt->n_shards; i++)
        bytes += ckpt->shards[i].header.header_bytes;
    /* a tensor: in its shard's list, in the checkpoint's, twice in a table of names; its shape */
    bytes += ckpt->n_tensors * (2 * sizeof(tmb_tensor) + 4 * sizeof(uint32_t) + 3 * 8);
    bytes += plan->job.model->arena.bytes + plan->job.assignment->arena.bytes + plan->arena.bytes;
    bytes +=
        (uint64_t)p->room_outs * sizeof *plan->outs + (uint64_t)p->room_slots * sizeof *plan->slots;
    bytes += (uint64_t)p->model->n_units * sizeof(tmb_sums);
    bytes += tmb_work_bytes(plan);
    return bytes + bytes / 16; /* what the allocator rounds up */
}

tmb_status tmb_plan_memory(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint64_t header = 0, text = 0; /* text: what is needed while no worker is there */
    for (uint32_t i = 0; i < plan->n_files; i++)
        header = larger(header, plan->files[i].header_bytes);
    for (uint32_t i = 0; i < plan->n_others; i++)
        if (plan->others[i].kind != TMB_OTHER_CARRIED) text = larger(text, plan->others[i].bytes);

    text = larger(2 * text, p->names.room * sizeof *p->names.slots);
    plan->metadata_bytes = metadata(p);
    plan->thread_bytes = tmb_worker_bytes(plan);
    uint64_t fixed = PROGRAM_BYTES + plan->metadata_bytes;
    uint64_t one = fixed + larger(2 * header + plan->thread_bytes, text);
    if (plan->options.max_ram && one > plan->options.max_ram)
        return tmb_fail(err, TMB_EUSAGE,
                        "this job needs %llu bytes of memory with one thread, more than the %llu "
                        "allowed; --max-ram %lluM would do",
                        (unsigned long long)one, (unsigned long long)plan->options.max_ram,
                        (unsigned long long)tmb_ceil_div(one, 1 << 20));
    for (;; plan->options.threads--) {
        uint64_t threads = (uint64_t)plan->options.threads;
        plan->peak_bytes = fixed + larger(2 * header + threads * plan->thread_bytes, text);
        if (!plan->options.max_ram || plan->peak_bytes <= plan->options.max_ram ||
            plan->options.threads == 1)
            return TMB_OK;
    }
}
