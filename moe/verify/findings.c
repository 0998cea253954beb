/* findings.c - what was found: folded by kind, errors first. */
#include "config.h"
#include "kernels/base/safe.h"
#include "moe/verify/verify_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const words[] = {
#define X(id, word) word,
    TMB_CHECKS(X)
#undef X
};

const char *tmb_check_word(tmb_check check)
{
    return words[check];
}

/* Two findings are of one kind when the same sentence was written for the same `kind`. */
typedef struct tmb_fold {
    const char *format;
    unsigned kind;
} tmb_fold;

static bool make_room(tmb_verifier *v)
{
    tmb_verify_report *r = v->report;
    if (r->n_findings < v->room) return true;
    uint32_t room = v->room ? v->room * 2 : 64;
    tmb_finding *list = tmb_arena_alloc(&r->arena, room * sizeof *list);
    const void **kinds = tmb_arena_alloc(&v->scratch, room * sizeof *kinds);
    if (!list || !kinds) return false;
    if (r->n_findings) {
        memcpy(list, r->findings, r->n_findings * sizeof *list);
        memcpy(kinds, v->kinds, r->n_findings * sizeof *kinds);
    }
    r->findings = list;
    v->kinds = kinds;
    v->room = room;
    return true;
}

/* Text that came from a file, safe to print. */
static const char *clean(tmb_arena *arena, const char *text)
{
    size_t room = 4 * strlen(text) + 1;
    char *copy = tmb_arena_alloc(arena, room);
    return copy ? tmb_safe(copy, room, text) : NULL;
}

void tmb_find(tmb_verifier *v, tmb_check check, tmb_severity severity, unsigned kind,
              const char *where, const char *format, ...)
{
    tmb_verify_report *r = v->report;
    tmb_ran(v, check);
    for (uint32_t i = 0; i < r->n_findings; i++) {
        const tmb_fold *fold = v->kinds[i];
        tmb_finding *f = &r->findings[i];
        if (f->check == words[check] && f->severity == severity && fold->format == format &&
            fold->kind == kind) {
            f->count++;
            return;
        }
    }
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    tmb_fold *fold = tmb_arena_alloc(&v->scratch, sizeof *fold);
    const char *at = clean(&r->arena, where), *told = clean(&r->arena, text);
    if (!fold || !at || !told || !make_room(v)) {
        v->no_memory = true;
        return;
    }
    *fold = (tmb_fold){.format = format, .kind = kind};
    v->kinds[r->n_findings] = fold;
    if (severity == TMB_ERROR) r->n_errors++;
    if (severity == TMB_WARNING) r->n_warnings++;
    r->findings[r->n_findings++] = (tmb_finding){
        .severity = severity, .check = words[check], .where = at, .text = told, .count = 1};
}

void tmb_findings_finish(tmb_verifier *v)
{
    tmb_verify_report *r = v->report;
    r->n_checks = (uint32_t)__builtin_popcountll(v->ran);
    /* Insertion sort: few, and the order within a severity must stay. */
    for (uint32_t i = 1; i < r->n_findings; i++) {
        tmb_finding f = r->findings[i];
        uint32_t k = i;
        for (; k > 0 && r->findings[k - 1].severity < f.severity; k--)
            r->findings[k] = r->findings[k - 1];
        r->findings[k] = f;
    }
}
