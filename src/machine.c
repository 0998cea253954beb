/* machine.c - what this machine has. */
#include "config.h"
#include "src/machine.h"

#include "moe/io/files.h"
#include "moe/io/match.h"

#include <ctype.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)

/* GPUs by the name people use, with the memory that data sheets give. */
static const struct known {
    const char *word, *name;
    int major, minor;
    unsigned gib;
} known[] = {
    {"a100", "NVIDIA A100 80GB", 8, 0, 80},
    {"a100-40g", "NVIDIA A100 40GB", 8, 0, 40},
    {"a40", "NVIDIA A40", 8, 6, 48},
    {"a6000", "NVIDIA RTX A6000", 8, 6, 48},
    {"rtx3090", "NVIDIA GeForce RTX 3090", 8, 6, 24},
    {"l4", "NVIDIA L4", 8, 9, 24},
    {"l40s", "NVIDIA L40S", 8, 9, 48},
    {"rtx4090", "NVIDIA GeForce RTX 4090", 8, 9, 24},
    {"rtx6000ada", "NVIDIA RTX 6000 Ada", 8, 9, 48},
    {"h20", "NVIDIA H20", 9, 0, 96},
    {"h100", "NVIDIA H100 80GB", 9, 0, 80},
    {"h200", "NVIDIA H200", 9, 0, 141},
    {"gh200", "NVIDIA GH200", 9, 0, 96},
    {"b200", "NVIDIA B200", 10, 0, 180},
    {"gb200", "NVIDIA GB200", 10, 0, 186},
    {"b300", "NVIDIA B300", 10, 3, 270},
    {"gb300", "NVIDIA GB300", 10, 3, 278},
    {"rtx5090", "NVIDIA GeForce RTX 5090", 12, 0, 32},
    {"rtxpro6000", "NVIDIA RTX PRO 6000 Blackwell", 12, 0, 96},
    {"dgxspark", "NVIDIA DGX Spark (GB10)", 12, 1, 119},
    {"t4", "NVIDIA T4", 7, 5, 16},
    {"v100", "NVIDIA V100", 7, 0, 32},
};
enum { N_KNOWN = sizeof known / sizeof *known };

/* A number behind `key` in a /proc file, 0 when it is not there. */
static uint64_t proc_number(const char *path, const char *key)
{
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key))) {
            value = strtoull(line + strlen(key), NULL, 10);
            break;
        }
    fclose(f);
    return value;
}

static void look_at_processor(tmb_machine *m)
{
    char line[256];
    cpu_set_t set;
    snprintf(m->processor, sizeof m->processor, "unknown processor");
    m->processors = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        snprintf(m->processor, sizeof m->processor, "%.*s", (int)strcspn(colon + 2, "\n"),
                 colon + 2);
        break;
    }
    fclose(f);
}

/* A container's limit counts as the machine's memory (cgroup v2). */
static void look_at_memory(tmb_machine *m)
{
    m->memory = 1024 * proc_number("/proc/meminfo", "MemTotal:");
    m->memory_free = 1024 * proc_number("/proc/meminfo", "MemAvailable:");
    uint64_t limit = proc_number("/sys/fs/cgroup/memory.max", "");
    uint64_t used = proc_number("/sys/fs/cgroup/memory.current", "");
    if (limit && limit < m->memory) {
        m->memory = limit;
        uint64_t left = limit > used ? limit - used : 0;
        if (left < m->memory_free) m->memory_free = left;
    }
}

uint64_t tmb_machine_disk_free(void)
{
    uint64_t bytes = 0;
    int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || tmb_disk_free(fd, ".", &bytes, NULL)) bytes = 0;
    if (fd >= 0) close(fd);
    return bytes;
}

static void set_gpus(tmb_machine *m, long count, const struct known *k)
{
    m->n_gpus = (int)count;
    for (int i = 0; i < m->n_gpus; i++) {
        tmb_gpu *g = &m->gpus[i];
        snprintf(g->name, sizeof g->name, "%s", k->name);
        g->major = k->major;
        g->minor = k->minor;
        g->bytes = k->gib * GIB;
    }
}

/* "8xH100", "rtx-5090", "sm90", "sm_120". */
static tmb_status ask_for(tmb_machine *m, const char *gpu, tmb_err *err)
{
    char word[32];
    const char *words[N_KNOWN], *s = gpu;
    char *x;
    long count = strtol(gpu, &x, 10);
    if (x != gpu && (*x == 'x' || *x == 'X'))
        s = x + 1;
    else
        count = 1;
    if (count < 1 || count > TMB_GPUS_MAX)
        return tmb_fail(err, TMB_EUSAGE, "--gpu: %ld GPUs; from 1 to %d can be asked for", count,
                        TMB_GPUS_MAX);
    size_t n = 0;
    for (; *s && n + 1 < sizeof word; s++)
        if (isalnum((unsigned char)*s)) word[n++] = (char)tolower((unsigned char)*s);
    word[n] = 0;
    m->asked = true;
    for (size_t i = 0; i < N_KNOWN; i++) {
        words[i] = known[i].word;
        if (!strcmp(known[i].word, word) || (!strcmp(word, "a10040g") && i == 1)) {
            set_gpus(m, count, &known[i]);
            return TMB_OK;
        }
    }
    int capability = !strncmp(word, "sm", 2) ? atoi(word + 2) : 0;
    if (capability >= 50 && capability < 200) {
        struct known k = {word, "a GPU of unknown memory", capability / 10, capability % 10, 0};
        set_gpus(m, count, &k);
        return TMB_OK;
    }
    const char *near = tmb_nearest(word, words, N_KNOWN);
    if (near)
        return tmb_fail(err, TMB_EUSAGE, "--gpu: unknown GPU '%.40s'; did you mean %s?", gpu, near);
    return tmb_fail(err, TMB_EUSAGE,
                    "--gpu: unknown GPU '%.40s'; write h100, 8xb200, rtx5090, or its compute "
                    "capability: sm90",
                    gpu);
}

tmb_status tmb_machine_look(tmb_machine *m, const char *gpu, tmb_err *err)
{
    memset(m, 0, sizeof *m);
    look_at_processor(m);
    look_at_memory(m);
    m->disk_free = tmb_machine_disk_free();
    if (gpu) return ask_for(m, gpu, err);
    m->n_gpus = tmb_gpus_find(m->gpus, TMB_GPUS_MAX, m->no_gpu, sizeof m->no_gpu);
    if (!m->n_gpus) {
        m->assumed = true;
        for (size_t i = 0; i < N_KNOWN; i++)
            if (!strcmp(known[i].word, "h100")) set_gpus(m, 1, &known[i]);
    }
    return TMB_OK;
}
