/* cases.h - a malformed checkpoint is a name, what to put into an empty folder, and the message.
 *
 * In every text a ' stands for a ", so that JSON stays readable here. */
#ifndef CASES_H
#define CASES_H

#include <stddef.h>
#include <stdint.h>

enum step_op {
    STEP_END,
    STEP_SHARD, /* a safetensors file: length, text, `size` zero bytes of data */
    STEP_RAW,   /* text, then a hole up to `size` */
    STEP_FIFO,
    STEP_FOLDER,
    STEP_LINK /* to text */
};

typedef struct step {
    enum step_op op;
    const char *file;
    const char *text;
    size_t n;
    uint64_t size;
} step;

typedef struct bad_case {
    const char *name;
    int status;
    const char *expect; /* the message; "" when the case is well-formed */
    const char *open;   /* what to open below the case's folder; NULL: the folder itself */
    step steps[6];
} bad_case;

/* clang-format off */
#define SHARD(file, text, size) {STEP_SHARD, file, text, sizeof(text) - 1, size}
#define RAW(file, text, size) {STEP_RAW, file, text, sizeof(text) - 1, size}
#define FIFO(file) {STEP_FIFO, file, NULL, 0, 0}
#define FOLDER(file) {STEP_FOLDER, file, NULL, 0, 0}
#define LINK(file, to) {STEP_LINK, file, to, 0, 0}

/* clang-format on */

#define INDEX "model.safetensors.index.json"
#define MODEL "model.safetensors"
/* A tensor of four bytes, and a file that holds it alone. */
#define FOUR(name)       "'" name "':{'dtype':'U8','shape':[4],'data_offsets':[0,4]}"
#define GOOD(file, name) SHARD(file, "{" FOUR(name) "}", 4)

extern const bad_case header_cases[], grammar_cases[], index_cases[], folder_cases[];

#endif
