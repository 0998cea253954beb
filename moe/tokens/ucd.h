/* ucd.h - what is known of a character; internal to moe/tokens.
 *
 * The tables are the reference's own answers, written by tools/gen_unicode.py, so no result depends
 * on the Unicode version of a library of this machine.
 *
 * Patterns see a character as one byte, its kind: an ASCII character is itself; the others share
 * 128 and up, a number for each combination of properties that a known pattern can tell apart. */
#ifndef TMB_TOKENS_UCD_H
#define TMB_TOKENS_UCD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TMB_UCD_CHARS = 0x110000, TMB_UCD_FIRST_KIND = 128 };

typedef struct tmb_ucd_prop {
    uint8_t kind;  /* 0: ASCII, the character itself */
    uint8_t word;  /* \w of Rust's regex */
    uint8_t noisy; /* NFC may change it, or join it to what stands before */
    uint8_t ccc;   /* canonical combining class */
} tmb_ucd_prop;

extern const tmb_ucd_prop tmb_ucd_props[];

/* [TMB_UCD_CHARS] places in tmb_ucd_props, malloc'ed, the caller's; NULL without memory. */
uint8_t *tmb_ucd_table(void);

/* Kinds are below this. */
unsigned tmb_ucd_kinds(void);
/* Does kind have the property: "L", "Lu", "M", "P" …, "Han", "s" (white space), "listed" (in the
 * ranges that DeepSeek's pattern gives by number), "long s" (U+017F)? */
bool tmb_ucd_has(unsigned kind, const char *property, size_t n);
bool tmb_ucd_space(const uint8_t *table, uint32_t c);

/* Full canonical decomposition of c to out [4]; how many characters, 1 when it has none. */
size_t tmb_ucd_apart(uint32_t c, uint32_t out[4]);
/* What a and b compose to, 0 when they do not. */
uint32_t tmb_ucd_compose(uint32_t a, uint32_t b);

#endif
