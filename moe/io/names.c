#include "config.h"
#include "moe/io/names.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static inline uint64_t rotl(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] = rotl(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] = rotl(v[2], 32);
}

static uint32_t hash(const uint64_t key[2], const char *text, size_t n)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    uint64_t word;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, text + i, 8);
        word = le64toh(word);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    word = 0;
    memcpy(&word, text + i, n - i);
    word = le64toh(word) | (uint64_t)n << 56;
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int k = 0; k < 3; k++)
        sip_round(v);
    return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

static inline const char *name_of(const void *items, size_t stride, size_t i)
{
    return *(const char *const *)((const char *)items + i * stride);
}

/* Room for n names in all.  The old slots are enough to fill the new ones. */
static tmb_status reserve(tmb_names *names, size_t n, tmb_err *err)
{
    if (!names->slots && getrandom(names->key, sizeof names->key, GRND_NONBLOCK) < 0)
        names->key[0] = (uintptr_t)names; /* early in boot: any key finds the same names */
    size_t room = names->room ? names->room : 16;
    while (room / 2 < n)
        room *= 2;
    if (room == names->room) return TMB_OK;
    uint64_t *slots = calloc(room, sizeof *slots);
    if (!slots) return tmb_fail_memory(err, room * sizeof *slots, "the table of names");
    for (size_t i = 0; i < names->room; i++) {
        if (!names->slots[i]) continue;
        size_t at = (size_t)(names->slots[i] >> 32) & (room - 1);
        while (slots[at])
            at = (at + 1) & (room - 1);
        slots[at] = names->slots[i];
    }
    free(names->slots);
    names->slots = slots;
    names->room = room;
    return TMB_OK;
}

/* The slot that holds this name, or the free one where it would go. */
static size_t probe(const tmb_names *names, const void *items, size_t stride, const char *name,
                    size_t n, uint32_t h)
{
    size_t at = h & (names->room - 1);
    for (;; at = (at + 1) & (names->room - 1)) {
        uint64_t slot = names->slots[at];
        if (!slot) return at;
        if (slot >> 32 != h) continue;
        const char *other = name_of(items, stride, (uint32_t)slot - 1);
        if (strncmp(other, name, n) == 0 && other[n] == 0) return at;
    }
}

tmb_status tmb_names_add(tmb_names *names, const void *items, size_t stride, size_t first,
                         size_t end, uint32_t *twin, uint32_t *at, tmb_err *err)
{
    enum { BATCH = 16 }; /* hashed ahead, so that the slots are in cache when they are probed */
    *twin = TMB_NAMES_NONE;
    if (end > UINT32_MAX / 2) return tmb_fail(err, TMB_EDATA, "over %u tensors", UINT32_MAX / 2);
    TRY(reserve(names, names->n + (end - first), err));
    for (size_t i = first; i < end;) {
        uint32_t h[BATCH];
        size_t length[BATCH], n = end - i < BATCH ? end - i : BATCH;
        for (size_t k = 0; k < n; k++) {
            const char *name = name_of(items, stride, i + k);
            length[k] = strlen(name);
            h[k] = hash(names->key, name, length[k]);
            __builtin_prefetch(&names->slots[h[k] & (names->room - 1)], 1);
        }
        for (size_t k = 0; k < n; k++, i++) {
            const char *name = name_of(items, stride, i);
            size_t slot = probe(names, items, stride, name, length[k], h[k]);
            if (names->slots[slot]) {
                *twin = (uint32_t)names->slots[slot] - 1;
                *at = (uint32_t)i;
                return TMB_OK;
            }
            names->slots[slot] = (uint64_t)h[k] << 32 | (uint32_t)(i + 1);
            names->n++;
        }
    }
    return TMB_OK;
}

uint32_t tmb_names_find(const tmb_names *names, const void *items, size_t stride, const char *name,
                        size_t n)
{
    if (!names->slots || strnlen(name, n) != n) return TMB_NAMES_NONE;
    uint64_t slot = names->slots[probe(names, items, stride, name, n, hash(names->key, name, n))];
    return slot ? (uint32_t)slot - 1 : TMB_NAMES_NONE;
}

void tmb_names_free(tmb_names *names)
{
    free(names->slots);
    *names = (tmb_names){0};
}

tmb_shown tmb_show(const char *name)
{
    tmb_shown shown;
    size_t n = strnlen(name, sizeof shown.text);
    if (n < sizeof shown.text) {
        memcpy(shown.text, name, n + 1);
        return shown;
    }
    n = sizeof shown.text - 4;
    while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
        n--;
    memcpy(shown.text, name, n);
    memcpy(shown.text + n, "...", 4);
    return shown;
}
