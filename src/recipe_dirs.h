/* recipe_dirs.h - where shipped recipes are looked for. */
#ifndef TMB_SRC_RECIPE_DIRS_H
#define TMB_SRC_RECIPE_DIRS_H

enum { TMB_RECIPE_DIRS = 16, TMB_RECIPE_DIR_BYTES = 4096 };

/* In this order: the folders of TOMBAC_RECIPES (colons between them); the source tree, when this
 * program stands in its build tree; ../share/tombac beside the program; the folder it was
 * configured for.  NULL-terminated. */
typedef struct tmb_recipe_dirs {
    const char *at[TMB_RECIPE_DIRS + 1];
    char text[TMB_RECIPE_DIRS][TMB_RECIPE_DIR_BYTES];
} tmb_recipe_dirs;

void tmb_recipe_dirs_find(tmb_recipe_dirs *dirs);

#endif
