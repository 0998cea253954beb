/* archs.h - the list of architectures, made from the words in moe/local.mk. */
#ifndef TMB_MODEL_ARCHS_H
#define TMB_MODEL_ARCHS_H

#include "moe/model/arch.h"

const tmb_arch *tmb_arch_find(const char *model_type); /* NULL when none answers to it */
const tmb_arch *tmb_arch_at(int i);                    /* NULL after the last */
const tmb_arch *tmb_arch_unknown(void); /* the table of common names, for unknown model types */

#endif
