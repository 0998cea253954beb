/* words.c - a hash set of borrowed strings that numbers its members. */
#include "config.h"
#include "moe/model/words.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash_of(const char *text, size_t length)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ length, word;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, text, length);
    h = (h ^ word) * 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(h ^ h >> 29 ^ h >> 47);
}

/* Where the name is, or the free slot where it belongs. */
static uint32_t slot_of(const tmb_words *set, const char *text, size_t length, uint32_t hash)
{
    uint32_t at = hash & set->mask;
    for (; set->slots[at]; at = (at + 1) & set->mask) {
        const struct tmb_word *name = &set->names[set->slots[at] - 1];
        if (name->hash == hash && name->length == length && memcmp(name->text, text, length) == 0)
            break;
    }
    return at;
}

/* Twice the room, slots at most half full. */
static bool grow(tmb_words *set)
{
    uint32_t capacity = set->capacity ? set->capacity * 2 : 64;
    if (capacity > 1u << 30) return false;
    struct tmb_word *names = realloc(set->names, capacity * sizeof *names);
    if (!names) return false;
    set->names = names;
    uint32_t *slots = calloc((size_t)capacity * 2, sizeof *slots);
    if (!slots) return false;
    free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    set->mask = capacity * 2 - 1;
    for (uint32_t i = 0; i < set->n; i++) {
        uint32_t at = names[i].hash & set->mask;
        while (slots[at])
            at = (at + 1) & set->mask;
        slots[at] = i + 1;
    }
    return true;
}

int64_t tmb_words_add(tmb_words *set, const char *text, size_t length, bool *is_new)
{
    if (length > UINT32_MAX || (set->n == set->capacity && !grow(set))) return TMB_WORDS_NONE;
    uint32_t hash = hash_of(text, length), at = slot_of(set, text, length, hash);
    *is_new = !set->slots[at];
    if (*is_new) {
        set->names[set->n] = (struct tmb_word){text, (uint32_t)length, hash};
        set->slots[at] = ++set->n;
    }
    return set->slots[at] - 1;
}

int64_t tmb_words_find(const tmb_words *set, const char *text, size_t length)
{
    if (!set->n) return TMB_WORDS_NONE;
    uint32_t at = slot_of(set, text, length, hash_of(text, length));
    return set->slots[at] ? (int64_t)set->slots[at] - 1 : TMB_WORDS_NONE;
}

void tmb_words_free(tmb_words *set)
{
    free(set->names);
    free(set->slots);
    *set = (tmb_words){0};
}
