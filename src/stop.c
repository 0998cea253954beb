/* stop.c - Ctrl-C as a flag.  A signal handler can reach nothing but file-scope state: this int
 * is the only one of the program. */
#include "config.h"
#include "src/stop.h"

#include <signal.h>
#include <stddef.h>

static volatile int came;

static void on_signal(int number)
{
    came = number;
}

static void handle(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction old;
        /* nohup and shells in the background ignore some of them: that stays so. */
        if (!sigaction(numbers[i], NULL, &old) && old.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

void tmb_stop_install(void)
{
    handle(on_signal, (int)SA_RESETHAND);
}

void tmb_stop_uninstall(void)
{
    handle(SIG_DFL, 0);
}

const volatile int *tmb_stop_flag(void)
{
    return &came;
}
