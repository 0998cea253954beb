/* bench_header - how long, and with how much memory, a header of N tensors is read.
 *
 *   tests/bench_header [-i] [-s] [-k SHARDS] [N [DIR]]
 *
 * Writes a checkpoint of N tensors with the names of a large MoE (its data is a hole in the file)
 * under DIR (default: the temp folder), opens it five times in processes of their own and prints
 * the best time and the peak memory over the header texts (and the index).  Over 750,000 tensors
 * a shard get short names, to stay under the 100 MB that a header may have.  -k writes several
 * shards and an index; -s lists the tensors in another order than they lie; -i reads the header
 * alone. */
#include "config.h"
#include "moe/io/checkpoint.h"
#include "moe/io/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const tmb_err *err)
{
    fprintf(stderr, "bench_header: %s\n", err->message);
    exit(err->status);
}

static void name_of(char *name, size_t size, size_t i, int brief)
{
    static const char *const parts[] = {"weight", "weight_scale", "weight_scale_2", "input_scale"};
    static const char *const proj[] = {"gate_proj", "up_proj", "down_proj"};
    size_t part = i % 4, p = i / 4 % 3, expert = i / 12 % 512, layer = i / 12 / 512;
    if (brief)
        snprintf(name, size, "layers.%zu.%zu.%zu.%zu", layer, expert, p, part);
    else
        snprintf(name, size, "model.layers.%zu.mlp.experts.%zu.%s.%s", layer, expert, proj[p],
                 parts[part]);
}

/* Shard k of tensors [first, end); returns the bytes of its header. */
static size_t write_shard(const char *dir, const char *file, size_t first, size_t end, int shuffle,
                          int brief)
{
    size_t n = end - first, room = n * 200 + 64, at = 8;
    char *text = malloc(room), path[4096], name[128];
    if (!text) exit(71);
    text[at++] = '{';
    for (size_t k = 0; k < n; k++) {
        size_t i = shuffle ? (k * 7919 + 13) % n : k; /* 7919 is a prime */
        name_of(name, sizeof name, first + i, brief);
        at += (size_t)snprintf(
            text + at, room - at,
            "%s\"%s\":{\"dtype\":\"U8\",\"shape\":[8,16],\"data_offsets\":[%zu,%zu]}", k ? "," : "",
            name, i * 128, (i + 1) * 128);
    }
    text[at++] = '}';
    uint64_t header = at - 8;
    memcpy(text, &header, 8);
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0666);
    tmb_err err;
    if (fd < 0 || tmb_file_pwrite(fd, text, at, 0, path, &err) ||
        ftruncate(fd, (off_t)(at + n * 128)))
        exit(73);
    close(fd);
    free(text);
    return header;
}

static void shard_name(char *file, size_t size, size_t k, size_t shards)
{
    snprintf(file, size, shards == 1 ? "model.safetensors" : "model-%05zu-of-%05zu.safetensors",
             k + 1, shards);
}

static size_t write_all(const char *dir, size_t n, size_t shards, int shuffle)
{
    char path[4096], file[64], name[128];
    size_t header = 0;
    int brief = n / shards > 750000; /* one header is at most 100 MB */
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    FILE *index = shards > 1 ? fopen(path, "w") : NULL;
    if (index) fprintf(index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (size_t k = 0; k < shards; k++) {
        size_t first = n * k / shards, end = n * (k + 1) / shards;
        shard_name(file, sizeof file, k, shards);
        header += write_shard(dir, file, first, end, shuffle, brief);
        for (size_t i = first; index && i < end; i++) {
            name_of(name, sizeof name, i, brief);
            fprintf(index, "%s\n\"%s\": \"%s\"", i ? "," : "", name, file);
        }
    }
    if (!index) return header;
    fprintf(index, "}}\n");
    header += (size_t)ftell(index);
    fclose(index);
    return header;
}

typedef struct sample {
    double seconds;
    long peak_kib;
} sample;

static sample measure(const char *dir, size_t n, int header_alone)
{
    sample s = {0};
    int ends[2];
    if (pipe(ends)) exit(71);
    pid_t child = fork();
    if (child == 0) {
        tmb_err err;
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        double start = now();
        if (header_alone) {
            tmb_header header;
            struct stat st;
            char path[4096];
            snprintf(path, sizeof path, "%s/model.safetensors", dir);
            int fd = open(path, O_RDONLY);
            if (fd < 0 || fstat(fd, &st)) exit(66);
            if (tmb_header_read(&header, fd, (uint64_t)st.st_size, "model.safetensors", &err))
                die(&err);
            if (header.n_tensors != n) exit(70);
        } else {
            tmb_checkpoint *ckpt;
            if (tmb_checkpoint_open(&ckpt, dir, &err)) die(&err);
            if (ckpt->n_tensors != n) exit(70);
        }
        s.seconds = now() - start;
        getrusage(RUSAGE_SELF, &after);
        s.peak_kib = after.ru_maxrss - before.ru_maxrss;
        _exit(write(ends[1], &s, sizeof s) == sizeof s ? 0 : 74);
    }
    close(ends[1]);
    int status;
    if (child < 0 || read(ends[0], &s, sizeof s) != sizeof s) exit(71);
    waitpid(child, &status, 0);
    close(ends[0]);
    return s;
}

int main(int argc, char **argv)
{
    int option, shuffle = 0, header_alone = 0;
    size_t shards = 1;
    while ((option = getopt(argc, argv, "isk:")) != -1) {
        if (option == 's') shuffle = 1;
        if (option == 'i') header_alone = 1;
        if (option == 'k') shards = strtoul(optarg, NULL, 10);
        if (option == '?') return 64;
    }
    size_t n = optind < argc ? strtoul(argv[optind], NULL, 10) : 1000000;
    const char *base = optind + 1 < argc ? argv[optind + 1] : getenv("TMPDIR");
    char dir[2048], path[4096], file[64];
    snprintf(dir, sizeof dir, "%s/tombac-bench-XXXXXX", base ? base : "/tmp");
    if (!n || !shards || shards > n || !mkdtemp(dir)) return 64;

    size_t header = write_all(dir, n, shards, shuffle);
    sample best = {1e9, 0};
    for (int i = 0; i < 5; i++) {
        sample s = measure(dir, n, header_alone);
        if (s.seconds < best.seconds) best = s;
    }
    printf("%zu tensors, %zu shards%s, %s: %.1f MB of header and index, %.3f s, %.1f MB peak over "
           "it\n",
           n, shards, shuffle ? " (unordered)" : "", header_alone ? "header alone" : "checkpoint",
           (double)header / 1e6, best.seconds,
           (double)best.peak_kib * 1024 / 1e6 - (double)header / 1e6);

    for (size_t k = 0; k < shards; k++) {
        shard_name(file, sizeof file, k, shards);
        snprintf(path, sizeof path, "%s/%s", dir, file);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    unlink(path);
    rmdir(dir);
    return 0;
}
