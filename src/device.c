#include "config.h"
#include "src/device.h"

#include <stdlib.h>
#include <string.h>

tmb_status tmb_device_parse(const char *text, int *index, tmb_err *err)
{
    *index = 0;
    if (!text || strcmp(text, "cuda") == 0) return TMB_OK;
    char *end;
    if (strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9') {
        long n = strtol(text + 5, &end, 10);
        if (!*end && n < 1024) {
            *index = (int)n;
            return TMB_OK;
        }
    }
    return tmb_fail(err, TMB_EUSAGE, "--device: '%.40s' is no cuda:N", text);
}
