/* stop.h - Ctrl-C as a flag that long jobs look at. */
#ifndef TMB_SRC_STOP_H
#define TMB_SRC_STOP_H

/* SIGINT, SIGTERM and SIGHUP set the flag; the second one ends the program at once. */
void tmb_stop_install(void);
/* A signal ends the program again, for commands that leave nothing half done. */
void tmb_stop_uninstall(void);
/* The number of the signal that came, 0 before. */
const volatile int *tmb_stop_flag(void);

#endif
