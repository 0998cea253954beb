/* diagnose.h - what the parts of `tombac diagnose` share. */
#ifndef TMB_SRC_DIAGNOSE_H
#define TMB_SRC_DIAGNOSE_H

#include "src/args.h"

#include "moe/diagnose/diagnosis.h"
#include "moe/diagnose/gate.h"
#include "moe/io/store.h"

extern const tmb_command tmb_command_diagnose_diff;

/* Verdict, overall figures, a row a layer; 100 columns. */
tmb_status tmb_diagnose_print(const tmb_diagnosis *d, tmb_err *err) TMB_CHECKED;
/* A line a condition. */
void tmb_diagnose_print_gates(const tmb_gates *gates);

/* The output folder, made when it is not there. */
tmb_status tmb_diagnose_folder(const char *path, tmb_err *err) TMB_CHECKED;
/* report.json and report.html in it; routing.h5, which `store` becomes. */
tmb_status tmb_diagnose_publish(const tmb_diagnosis *d, const char *folder, tmb_store *store,
                                tmb_err *err) TMB_CHECKED;

#endif
