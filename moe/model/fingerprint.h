/* fingerprint.h - which checkpoint this is, told without reading all of it.
 *
 * SHA-256 over config.json's content, the name, type and shape of every tensor in the order of
 * names, and 64 bytes from the middle of up to 4096 tensors evenly spread over that order.  It does
 * not depend on how tensors are dealt to shards, on paths or times; two checkpoints of one
 * architecture that were trained differently differ in it.  It is no seal: a few changed weights
 * may stay unseen, the checksums of tombac.json are for that. */
#ifndef TMB_MODEL_FINGERPRINT_H
#define TMB_MODEL_FINGERPRINT_H

#include "moe/io/checkpoint.h"
#include "moe/io/files.h"

tmb_status tmb_fingerprint(char out[TMB_SHA256_HEX], const tmb_checkpoint *ckpt,
                           tmb_err *err) TMB_CHECKED;

#endif
