/* layouts.h - the list of layouts, made from the words in moe/local.mk. */
#ifndef TMB_LAYOUT_LAYOUTS_H
#define TMB_LAYOUT_LAYOUTS_H

#include "moe/layout/layout.h"

const tmb_layout *tmb_layout_find(const char *name); /* NULL when there is none */
const tmb_layout *tmb_layout_at(int i);              /* NULL after the last */

#endif
