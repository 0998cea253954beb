/* mx.h - what the MX formats share (OCP Microscaling Formats v1.0): an E8M0 scale for 32 columns.
 */
#ifndef TMB_FORMAT_MX_H
#define TMB_FORMAT_MX_H

#include "moe/format/format.h"

enum { TMB_MX_BLOCK = 32 };

/* How an MX format differs from the others; the element operations are members of tmb_ops. */
typedef struct tmb_mx {
    unsigned bits;  /* of a code: 4 or 8 */
    uint32_t carry; /* of tmb_scales_e8m0() */
    int top_exponent;
} tmb_mx;

bool tmb_mx_part(const tmb_mx *mx, tmb_part part, uint64_t out, uint64_t in, tmb_geometry *g);
void tmb_mx_encode(const tmb_mx *mx, const tmb_ops *ops, const float *x, size_t rows, size_t cols,
                   void *codes, void *scales, float *work);
void tmb_mx_decode(const tmb_mx *mx, const tmb_ops *ops, float *x, size_t rows, size_t cols,
                   const void *codes, const void *scales, float *work);

#endif
