/* steps.h - what a case of tests/malformed/cases/ is made of; the language stands in README.md
 * beside it. */
#ifndef TMB_MALFORMED_STEPS_H
#define TMB_MALFORMED_STEPS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct folder folder; /* the checkpoint `c` while it is only thought of */

/* Make the folder of the new case the working directory, and begin with no checkpoint. */
folder *folder_new(void);
void folder_free(folder *f);
/* One step, "WORD REST"; false with *why when it makes no sense. */
bool folder_step(folder *f, const char *word, char *rest, const char **why);
/* Write `c`, when there is one that was not written yet. */
bool folder_write(folder *f, const char **why);
/* \n \t \s (blank) \\ \xNN in place; returns the length. */
size_t unescape(char *text);
/* Remove the working directory's folder NAME and all below. */
void remove_tree(const char *name);

#endif
