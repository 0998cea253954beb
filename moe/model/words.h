/* words.h - a set of names, each with the number of its turn: 0, 1, 2 … */
#ifndef TMB_MODEL_WORDS_H
#define TMB_MODEL_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialised is empty and ready.  Keys are borrowed and need no NUL. */
typedef struct tmb_words {
    struct tmb_word {
        const char *text;
        uint32_t length, hash;
    } *names;
    uint32_t *slots; /* open addressing: number + 1, 0 free */
    uint32_t n, capacity, mask;
} tmb_words;

enum { TMB_WORDS_NONE = -1 };

/* The number of the name, added when it is new; TMB_WORDS_NONE without memory (or past 2^31). */
int64_t tmb_words_add(tmb_words *set, const char *text, size_t length, bool *is_new);
/* TMB_WORDS_NONE when it is not there. */
int64_t tmb_words_find(const tmb_words *set, const char *text, size_t length);
void tmb_words_free(tmb_words *set);

#endif
