/* diagnose_files.c - the folder that `tombac diagnose -o` makes. */
#include "config.h"
#include "src/diagnose.h"

#include "moe/diagnose/page.h"
#include "moe/diagnose/report.h"
#include "moe/diagnose/traces.h"
#include "moe/io/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

tmb_status tmb_diagnose_folder(const char *path, tmb_err *err)
{
    struct stat st;
    if (mkdir(path, 0777) == 0) return TMB_OK;
    if (errno != EEXIST) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot make it", path);
    if (stat(path, &st) || !S_ISDIR(st.st_mode))
        return tmb_fail(err, TMB_ECREATE, "%s: is there and is no folder; choose another -o", path);
    return TMB_OK;
}

static tmb_status publish_json(const tmb_diagnosis *d, int dirfd, const char *folder, tmb_err *err)
{
    tmb_json *root = tmb_report_json(d);
    char *text = root ? tmb_json_dump(root, 2) : NULL;
    tmb_status status =
        text ? tmb_file_publish(dirfd, folder, "report.json", text, strlen(text), err)
             : tmb_fail_memory(err, 0, "report.json");
    free(text);
    tmb_json_free(root);
    return status;
}

static tmb_status publish_page(const tmb_diagnosis *d, int dirfd, const char *folder, tmb_err *err)
{
    char *text = NULL;
    size_t n = 0;
    tmb_status status = tmb_page(d, &text, &n, err);
    if (!status) status = tmb_file_publish(dirfd, folder, "report.html", text, n, err);
    free(text);
    return status;
}

tmb_status tmb_diagnose_publish(const tmb_diagnosis *d, const char *folder, tmb_store *store,
                                tmb_err *err)
{
    int dirfd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0) return tmb_fail_errno(err, TMB_ECREATE, "%s: cannot open", folder);
    tmb_status status = tmb_diagnosis_store(d, store, err);
    if (!status) status = tmb_store_publish(store, err);
    if (!status) status = publish_json(d, dirfd, folder, err);
    if (!status) status = publish_page(d, dirfd, folder, err);
    close(dirfd);
    return status;
}
