/* test_hardened - the program as it was built, read by its ELF headers: what configure found the
 * compiler and linker to take must show in it, and nothing is writable and executable at once. */
#include "config.h"
#include "moe/io/checkpoint.h"
#include "tests/tap.h"

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined __LP64__
typedef Elf64_Ehdr elf_header;
typedef Elf64_Phdr elf_segment;
typedef Elf64_Dyn elf_dynamic;
typedef Elf64_Shdr elf_section;
typedef Elf64_Sym elf_symbol;
#else
typedef Elf32_Ehdr elf_header;
typedef Elf32_Phdr elf_segment;
typedef Elf32_Dyn elf_dynamic;
typedef Elf32_Shdr elf_section;
typedef Elf32_Sym elf_symbol;
#endif

typedef struct image {
    char *bytes;
    size_t n;
    const elf_header *header;
    const elf_segment *segments;
    uint64_t tags[64]; /* of the dynamic section, by number; DT_FLAGS_1 apart */
    uint64_t flags_1;
} image;

static bool load(image *m, const char *path)
{
    FILE *f = path ? fopen(path, "rb") : NULL;
    long n = 0;
    if (!f) return false;
    if (!fseek(f, 0, SEEK_END)) n = ftell(f);
    rewind(f);
    m->bytes = malloc((size_t)n + 1);
    m->n = m->bytes ? fread(m->bytes, 1, (size_t)n, f) : 0;
    fclose(f);
    m->header = (const elf_header *)m->bytes;
    m->segments =
        (const elf_segment *)(m->bytes + (m->n > sizeof *m->header ? m->header->e_phoff : 0));
    return m->n > sizeof *m->header && memcmp(m->bytes, ELFMAG, SELFMAG) == 0;
}

static const elf_segment *segment(const image *m, uint32_t type)
{
    for (int i = 0; i < m->header->e_phnum; i++)
        if (m->segments[i].p_type == type) return &m->segments[i];
    return NULL;
}

static void read_dynamic(image *m)
{
    const elf_segment *s = segment(m, PT_DYNAMIC);
    if (!s) return;
    const elf_dynamic *d = (const elf_dynamic *)(m->bytes + s->p_offset);
    for (; d->d_tag != DT_NULL; d++) {
        if (d->d_tag > 0 && d->d_tag < 64) m->tags[d->d_tag] = d->d_un.d_val + 1;
        if (d->d_tag == DT_FLAGS_1) m->flags_1 = d->d_un.d_val;
    }
}

/* A symbol that is asked of libraries: one whose name begins and ends so. */
static bool imports(const image *m, const char *head, const char *tail)
{
    size_t nh = strlen(head), nt = strlen(tail);
    for (const char *p = m->bytes, *end = m->bytes + m->n; p + nh + nt < end; p++) {
        p = memchr(p, head[0], (size_t)(end - p - (ptrdiff_t)(nh + nt)));
        if (!p) break;
        if (memcmp(p, head, nh) != 0 || p == m->bytes || p[-1] != 0) continue;
        size_t n = strnlen(p, (size_t)(end - p));
        if (n >= nh + nt && memcmp(p + n - nt, tail, nt) == 0) return true;
    }
    return false;
}

/* What would reach beyond the folders that were named: another program, or a network. */
static const char *reaches_out(const image *m)
{
    static const char *const calls[] = {
#ifndef HAVE_CUDA /* its static runtime can speak to daemons of the driver */
        "socket", "connect",
#endif
        "execve", "execv",   "execvp", "execl", "system", "posix_spawn", "popen"};
    const elf_section *sections = (const elf_section *)(m->bytes + m->header->e_shoff);
    for (int i = 0; m->header->e_shoff && i < m->header->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM) continue;
        const elf_symbol *symbols = (const elf_symbol *)(m->bytes + sections[i].sh_offset);
        const char *names = m->bytes + sections[sections[i].sh_link].sh_offset;
        for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++)
            for (size_t c = 0; symbols[k].st_shndx == SHN_UNDEF && c < sizeof calls / sizeof *calls;
                 c++)
                if (strcmp(names + symbols[k].st_name, calls[c]) == 0) return calls[c];
    }
    return NULL;
}

/* Where a library is looked for first, when anywhere: whole paths alone. */
static bool whole_paths(const image *m, int tag)
{
    if (!m->tags[tag]) return true;
    uint64_t at = m->tags[DT_STRTAB] - 1 + m->tags[tag] - 1;
    for (int i = 0; i < m->header->e_phnum; i++) {
        const elf_segment *s = &m->segments[i];
        if (s->p_type != PT_LOAD || at < s->p_vaddr || at - s->p_vaddr >= s->p_filesz) continue;
        const char *path = m->bytes + s->p_offset + (at - s->p_vaddr);
        bool good = *path == '/';
        for (; *path; path++)
            good &= *path != ':' || path[1] == '/';
        return good;
    }
    return false;
}

static bool no_writable_code(const image *m)
{
    for (int i = 0; i < m->header->e_phnum; i++) {
        const elf_segment *s = &m->segments[i];
        if ((s->p_type == PT_LOAD || s->p_type == PT_GNU_STACK) && s->p_flags & PF_W &&
            s->p_flags & PF_X)
            return false;
    }
    return true;
}

int main(void)
{
    image m = {0};
    if (!load(&m, getenv("TOMBAC"))) {
        printf("1..0 # SKIP no ELF program at $TOMBAC\n");
        return 0;
    }
    read_dynamic(&m);
    ok(no_writable_code(&m), "no segment is writable and executable");
    ok(!m.tags[DT_TEXTREL], "code is not relocated");
    ok(whole_paths(&m, DT_RPATH) && whole_paths(&m, DT_RUNPATH),
       "no library is looked for where the user happens to stand");
    const char *call = reaches_out(&m);
    ok(!call, "no program is started and no connection opened%s%s", call ? ": it asks for " : "",
       call ? call : "");
#ifdef TMB_HARDENED_PIE
    ok(m.header->e_type == ET_DYN && segment(&m, PT_INTERP), "position-independent executable");
#endif
#ifdef TMB_HARDENED_RELRO
    ok(segment(&m, PT_GNU_RELRO) != NULL, "relocated data is read-only after start");
#endif
#ifdef TMB_HARDENED_NOW
    ok(m.flags_1 & DF_1_NOW || m.tags[DT_BIND_NOW] ||
           (m.tags[DT_FLAGS] && (m.tags[DT_FLAGS] - 1) & DF_BIND_NOW),
       "every symbol is bound at start");
#endif
#ifdef TMB_HARDENED_NOEXECSTACK
    const elf_segment *stack = segment(&m, PT_GNU_STACK);
    ok(stack && !(stack->p_flags & PF_X), "the stack is not executable");
#endif
#ifdef TMB_HARDENED_STACK
    ok(imports(&m, "__stack_chk_fail", ""), "stack protector");
#endif
#ifdef TMB_HARDENED_FORTIFY
    ok(imports(&m, "__", "_chk"), "buffer sizes are checked by the C library");
#endif
#if defined TMB_HARDENED_CET && defined __x86_64__
    static const unsigned char endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    const void *entry = (const void *)(uintptr_t)&tmb_checkpoint_open;
    ok(memcmp(entry, endbr64, sizeof endbr64) == 0, "indirect branches land on marks");
#endif
    free(m.bytes);
    return done();
}
