/* nfc.h - Normalization Form C (Unicode Standard Annex 15); internal to moe/tokens. */
#ifndef TMB_TOKENS_NFC_H
#define TMB_TOKENS_NFC_H

#include "kernels/base/err.h"
#include "moe/tokens/buf.h"

/* Append NFC of text [n], well-formed UTF-8, to *out.  *same: nothing had to change, and nothing
 * was appended. */
tmb_status tmb_nfc(const uint8_t *table, const uint8_t *text, size_t n, tmb_buf *out, bool *same,
                   tmb_err *err) TMB_CHECKED;

#endif
