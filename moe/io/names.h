/* names.h - which item has this name?  An open-addressed table of (hash, index) over an array
 * that somebody else owns, whose items begin with a `const char *` name.
 *
 * Eight bytes a slot, at most half full.  The hash is SipHash-1-3 (Aumasson and Bernstein,
 * "SipHash: a fast short-input PRF", 2012) under a random key, so nobody can write a file whose
 * names all fall into one slot; no result depends on the key. */
#ifndef TMB_IO_NAMES_H
#define TMB_IO_NAMES_H

#include "kernels/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tmb_names {
    uint64_t *slots; /* hash << 32 | index + 1; 0 is free */
    size_t room;     /* a power of two */
    size_t n;
    uint64_t key[2];
} tmb_names; /* zero-initialised is empty and ready */

#define TMB_NAMES_NONE UINT32_MAX

/* Add items [first, end) of the array `items` with `stride` bytes between names.  *twin is
 * TMB_NAMES_NONE, or an earlier item with the name of *at; then nothing after *at is added. */
tmb_status tmb_names_add(tmb_names *names, const void *items, size_t stride, size_t first,
                         size_t end, uint32_t *twin, uint32_t *at, tmb_err *err) TMB_CHECKED;
/* The item named name [n], or TMB_NAMES_NONE. */
uint32_t tmb_names_find(const tmb_names *names, const void *items, size_t stride, const char *name,
                        size_t n);
void tmb_names_free(tmb_names *names);

/* A name as a message shows it: whole, or cut between characters with "..." at the end. */
typedef struct tmb_shown {
    char text[164];
} tmb_shown;
tmb_shown tmb_show(const char *name);

#endif
