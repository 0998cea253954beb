/* fault_layer.h - a layer between the program and the system, for tests only.
 *
 * tests/faulty is the whole program, linked so that its calls of the system and of malloc pass
 * through tests/fault_layer.c (ld --wrap).  Told by environment variables, the layer
 *   TOMBAC_FAULT="KIND N ERRNO HOW"   strikes at the Nth call of a kind (1 is the first);
 *   TOMBAC_DISK="BYTES [hidden]"      is a disk with so much room; hidden: statvfs does not know;
 *   TOMBAC_OLD_KERNEL=1               has no openat2;
 *   TOMBAC_SLOW=MICROSECONDS          is a disk that takes so long for every write;
 *   TOMBAC_COUNTS=FILE                writes "KIND CALLS" lines, and the path of what it struck;
 *   TOMBAC_TRACE=FILE                 records what happened to files (tests/fault_trace.h).
 * The product knows nothing of it. */
#ifndef TMB_TESTS_FAULT_LAYER_H
#define TMB_TESTS_FAULT_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAULT_KINDS(X)                                                                             \
    X(OPEN, "open")                                                                                \
    X(READ, "read")                                                                                \
    X(WRITE, "write")                                                                              \
    X(SYNC, "sync")                                                                                \
    X(RESERVE, "reserve")                                                                          \
    X(TRUNCATE, "truncate")                                                                        \
    X(RENAME, "rename")                                                                            \
    X(UNLINK, "unlink")                                                                            \
    X(MKDIR, "mkdir")                                                                              \
    X(CLOSE, "close")                                                                              \
    X(STAT, "stat")                                                                                \
    X(LOCK, "lock")                                                                                \
    X(LIST, "list")                                                                                \
    X(MEMORY, "memory")                                                                            \
    X(THREAD, "thread")                                                                            \
    X(CHANGE, "change") /* any of write, sync, reserve, truncate, rename, unlink, mkdir */
typedef enum fault_kind {
#define X(name, word) FAULT_##name,
    FAULT_KINDS(X)
#undef X
        FAULT_COUNT
} fault_kind;

/* HOW: once and forever fail with ERRNO; lie says from there on that it is done and does nothing
 * (of sync); short does half of the bytes; kill-before and kill-after
 * end the process by SIGKILL around the call, kill-half in the middle of a write. */

/* --- fault_layer.c: what strikes --- */

/* ld --wrap=f: who calls f reaches __wrap_f, and the f of the library is __real_f. */
#define WRAP(type, name, ...)                                                                      \
    type __real_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__);                                                               \
    type __wrap_##name(__VA_ARGS__)

typedef enum fault_verdict {
    FAULT_NONE,
    FAULT_FAIL, /* errno is set */
    FAULT_HALF,
    FAULT_LIE,  /* say that it is done */
    FAULT_KILL, /* after the call */
    FAULT_KILL_HALF
} fault_verdict;

/* Count a call; fd and name say where, and may be -1 and NULL. */
fault_verdict fault_strike(fault_kind kind, int fd, const char *name);
/* The same for a call that changes something: it is of kind "change" too. */
fault_verdict fault_strike_change(fault_kind kind, int fd, const char *name);
int fault_errno(void);
void fault_slow(void);
/* fault_memory.c: give the libraries our malloc, and let them make what they make once. */
void fault_memory_open(void);
void fault_die(void);

#define BEFORE(kind, fd, name, failed)                                                             \
    fault_verdict v = fault_strike(kind, fd, name);                                                \
    if (v == FAULT_FAIL) return failed
#define BEFORE_CHANGE(kind, fd, name, failed)                                                      \
    fault_verdict v = fault_strike_change(kind, fd, name);                                         \
    if (v == FAULT_FAIL) return failed
#define AFTER                                                                                      \
    if (v == FAULT_KILL || v == FAULT_KILL_HALF) fault_die()

/* The disk.  How many of n bytes at `offset` of fd there is room for; takes it. */
size_t fault_take_room(int fd, size_t n, uint64_t offset);
void fault_give_room(uint64_t bytes);
/* Bytes free as statvfs may know, or `real`. */
uint64_t fault_room(uint64_t real);

/* --- fault_trace.c: the recorder --- */

typedef enum trace_op {
    TRACE_OPEN = 1, /* a: fd, text: absolute path, b: 1 when it made the file */
    TRACE_CLOSE,    /* a: fd */
    TRACE_WRITE,    /* a: fd, b: offset, bytes follow */
    TRACE_SIZE,     /* a: fd, b: new size (truncate, or reserve that made it longer) */
    TRACE_SYNC,     /* a: fd */
    TRACE_RENAME,   /* a: fd of the folder, text: "FROM/TO" */
    TRACE_UNLINK,   /* a: fd of the folder, text: name */
    TRACE_MKDIR,    /* a: fd of the folder, text: name */
    TRACE_RMDIR     /* text: path */
} trace_op;

typedef struct trace_head {
    uint32_t op;
    int32_t a;
    uint64_t b, bytes; /* bytes that follow: data or text without NUL */
} trace_head;

void trace_begin(void); /* hold the lock, so that the order of records is that of the calls */
void trace_end(void);
void trace_add(trace_op op, int a, uint64_t b, const void *data, size_t n);
void trace_open(int fd, bool made);

#endif
