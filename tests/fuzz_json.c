/* fuzz_json - config.json, as leniently as it is read.  What is taken and written once is taken
 * again, and written the same. */
#include "config.h"
#include "moe/io/json.h"
#include "tests/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int lenient = 0; lenient < 2; lenient++) {
        tmb_json *first, *second;
        tmb_err err = {0};
        tmb_status status = tmb_json_parse(&first, (const char *)data, size, "f", lenient, &err);
        if (status) {
            MUST(status == TMB_EDATA && strncmp(err.message, "f: ", 3) == 0 &&
                 !strpbrk(err.message, "\n\033"));
            continue;
        }
        char *text = tmb_json_dump(first, 2);
        MUST(text);
        MUST(!tmb_json_parse(&second, text, strlen(text), "f", lenient, &err));
        char *again = tmb_json_dump(second, 2);
        MUST(again && strcmp(text, again) == 0);
        tmb_json *copy = tmb_json_copy(first);
        char *third = tmb_json_dump(copy, 2);
        MUST(third && strcmp(text, third) == 0);
        free(text);
        free(again);
        free(third);
        tmb_json_free(copy);
        tmb_json_free(first);
        tmb_json_free(second);
    }
    return 0;
}
