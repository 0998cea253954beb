/* plan_memory.c - the formula of plan.h, and what a limit leaves of the threads. */
#include "config.h"
#include "moe/quantize/plan_internal.h"

#include "moe/quantize/bundle.h"
#include "moe/quantize/stage.h"
#include "moe/quantize/weighing.h"
#include "moe/quantize/work.h"

#define PROGRAM_BYTES (UINT64_C(24) << 20)
#define DRIVER_BYTES  (UINT64_C(1) << 30) /* of a GPU, in host memory */
#define BLOCK_LEAST   (UINT64_C(64) << 10)
#define BLOCK_MOST    (UINT64_C(4) << 20)
enum { BLOCKS_LEAST = 4, BLOCKS_MOST = 64 };

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
    bytes += (uint64_t)p->model->n_units * (2 * sizeof(tmb_sums) + 1);
    bytes += tmb_work_bytes(plan);
    return bytes + bytes / 16; /* what the allocator rounds up */
}

/* Blocks are as large as a disk likes, and a sixteenth of a small shard. */
static uint32_t block_bytes(const tmb_plan *plan)
{
    uint64_t largest = 0, bytes = BLOCK_LEAST;
    for (uint32_t i = 0; i < plan->n_files; i++)
        largest = larger(largest, plan->files[i].header_bytes + plan->files[i].data_bytes);
    while (bytes < BLOCK_MOST && bytes * 16 < largest)
        bytes *= 2;
    return (uint32_t)bytes;
}

static uint32_t blocks_wanted(const tmb_plan *plan)
{
    uint64_t all = 0, n = 8 + 4 * (uint64_t)plan->options.threads;
    for (uint32_t i = 0; i < plan->n_files; i++)
        all += 1 + (plan->files[i].header_bytes + plan->files[i].data_bytes) / plan->block_bytes;
    if (n > BLOCKS_MOST) n = BLOCKS_MOST;
    if (n > all) n = all;
    return (uint32_t)(n > BLOCKS_LEAST ? n : BLOCKS_LEAST);
}

/* Peak with this many threads, when what waits is halved `level` times. */
static uint64_t peak(tmb_plan *plan, uint64_t fixed, uint64_t header, uint64_t text, int threads,
                     int level, bool *least)
{
    uint64_t stage_least = tmb_stage_least(plan);
    plan->options.threads = threads;
    plan->stage_bytes = tmb_stage_wanted(plan) >> level;
    plan->n_blocks = blocks_wanted(plan) >> level;
    *least = plan->stage_bytes <= stage_least && plan->n_blocks <= BLOCKS_LEAST;
    if (plan->stage_bytes < stage_least) plan->stage_bytes = stage_least;
    if (plan->n_blocks < BLOCKS_LEAST) plan->n_blocks = BLOCKS_LEAST;
    plan->stage_bytes -= plan->stage_bytes % 4096;
    plan->thread_bytes = tmb_worker_bytes(plan, plan->stage_bytes);
    uint64_t work = plan->stage_bytes + tmb_stage_overhead(plan) +
                    (uint64_t)plan->n_blocks * plan->block_bytes + 2 * header +
                    (uint64_t)threads * plan->thread_bytes +
                    tmb_weighing_bytes(plan, plan->stage_bytes);
    plan->peak_bytes = fixed + larger(work, text);
    plan->device_bytes =
        plan->options.gpu ? (uint64_t)threads * tmb_gpu_need(plan).device_bytes : 0;
    return plan->peak_bytes;
}

tmb_status tmb_plan_memory(tmb_planner *p, tmb_err *err)
{
    tmb_plan *plan = p->plan;
    uint64_t header = 0, text = 0; /* text: what is needed while no worker is there */
    uint64_t limit = plan->options.max_ram ? plan->options.max_ram : UINT64_MAX;
    bool least = false;
    for (uint32_t i = 0; i < plan->n_files; i++)
        header = larger(header, plan->files[i].header_bytes);
    for (uint32_t i = 0; i < plan->n_others; i++)
        if (plan->others[i].kind != TMB_OTHER_CARRIED) text = larger(text, plan->others[i].bytes);

    text = larger(2 * text, p->names.room * sizeof *p->names.slots);
    plan->metadata_bytes = metadata(p);
    plan->block_bytes = block_bytes(plan);
    uint64_t fixed = PROGRAM_BYTES + plan->metadata_bytes + (plan->options.gpu ? DRIVER_BYTES : 0);
    for (int threads = plan->options.threads; threads > 0; threads--) {
        for (int level = 0; level == 0 || !least; level++)
            if (peak(plan, fixed, header, text, threads, level, &least) <= limit) return TMB_OK;
    }
    return tmb_fail(err, TMB_EUSAGE,
                    "this job needs %llu bytes of memory with one thread, more than the %llu "
                    "allowed; --max-ram %lluM would do",
                    (unsigned long long)plan->peak_bytes, (unsigned long long)limit,
                    (unsigned long long)tmb_ceil_div(plan->peak_bytes, 1 << 20));
}
