/* test_store.c - arrays in HDF5: whole or not there, the same bytes, and strict when read. */
#include "config.h"
#include "moe/io/store.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/test_store-XXXXXX";

static const char *in_dir(const char *name)
{
    static char paths[4][256];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

enum { WIDE = 300000 };

static tmb_status write_all(const char *path, const char *manifest, tmb_err *err)
{
    tmb_store *s = NULL;
    static uint64_t wide[WIDE];
    float f[6] = {1, 2, 3, -4, 0, 6.5f};
    const char *texts[] = {"web", "", "code: \xc3\xa9t\xc3\xa9"};
    for (int i = 0; i < WIDE; i++)
        wide[i] = 0x0123456789abcdefu * (uint64_t)(i + 1);
    tmb_status status = tmb_store_create(&s, path, "test", 1, err);
    if (!status) status = tmb_store_put(s, "a/b/f", TMB_STORE_F32, 2, (uint64_t[]){2, 3}, f, err);
    if (!status)
        status = tmb_store_begin(s, "a/wide", TMB_STORE_U64, 2, (uint64_t[]){WIDE / 100, 100}, err);
    for (int i = 0; i < WIDE / 100 && !status; i += 1000)
        status = tmb_store_more(s, wide + 100 * i, 1000, err);
    if (!status) status = tmb_store_end(s, err);
    if (!status) status = tmb_store_put_texts(s, "names", texts, 3, err);
    if (!status) status = tmb_store_put(s, "none", TMB_STORE_I32, 1, (uint64_t[]){0}, f, err);
    if (!status) status = tmb_store_put_texts(s, "manifest", &manifest, 1, err);
    if (!status) status = tmb_store_publish(s, err);
    tmb_store_close(s);
    return status;
}

static bool same_files(const char *a, const char *b)
{
    char command[600];
    snprintf(command, sizeof command, "cmp -s %s %s", a, b);
    return system(command) == 0;
}

static void round_trip(void)
{
    tmb_err err = {0};
    tmb_store *s = NULL;
    float f[6] = {0};
    char texts[3 * 16] = "", digest[TMB_SHA256_HEX] = "";
    tmb_store_shape shape;
    tmb_status status = write_all(in_dir("one.h5"), "{\"run\": 1}", &err);
    if (!status) status = tmb_store_open(&s, in_dir("one.h5"), "test", 1, &err);
    ok(!status, "write and open %s", err.message);
    ok(!tmb_store_get(s, "a/b/f", TMB_STORE_F32, 2, (uint64_t[]){2, 3}, f, &err) && f[3] == -4 &&
           f[5] == 6.5f,
       "an array comes back");
    ok(tmb_store_find(s, "names", &shape) && shape.type == TMB_STORE_TEXT && shape.width == 11 &&
           !tmb_store_get(s, "names", TMB_STORE_TEXT, 1, (uint64_t[]){3}, texts, &err) &&
           !strcmp(texts + 22, "code: \xc3\xa9t\xc3\xa9"),
       "texts come back");
    uint64_t rows[200];
    bool fine =
        !tmb_store_get_begin(s, "a/wide", TMB_STORE_U64, 2, (uint64_t[]){UINT64_MAX, 100}, &err);
    for (int i = 0; i < WIDE / 100 && fine; i += 2) {
        fine = !tmb_store_get_more(s, rows, 2, &err);
        fine = fine && rows[150] == 0x0123456789abcdefu * (uint64_t)(100 * i + 151);
    }
    ok(fine && !tmb_store_get_end(s, &err), "rows come back in pieces, and their digest agrees");
    ok(tmb_store_at(s, 0) && !strcmp(tmb_store_at(s, 0), "a/b/f") && !tmb_store_at(s, 5),
       "names in the order of bytes");
    strcpy(digest, tmb_store_digest(s));
    ok(tmb_store_get(s, "names", TMB_STORE_U8, 1, (uint64_t[]){3}, texts, &err) == TMB_EDATA &&
           strstr(err.message, "one.h5: names: has another type or shape"),
       "%s", err.message);
    ok(tmb_store_get(s, "nowhere", TMB_STORE_U8, 1, (uint64_t[]){3}, texts, &err) == TMB_EDATA &&
           strstr(err.message, "one.h5: nowhere: is missing"),
       "%s", err.message);
    tmb_store_close(s);
    sleep(1); /* a time stamp would show */
    ok(!write_all(in_dir("two.h5"), "{\"run\": 1}", &err) &&
           same_files(in_dir("one.h5"), in_dir("two.h5")),
       "the same calls write the same bytes");
    status = write_all(in_dir("two.h5"), "{\"run\": 2, \"host\": \"elsewhere\"}", &err);
    if (!status) status = tmb_store_open(&s, in_dir("two.h5"), "test", 1, &err);
    ok(!status && !strcmp(digest, tmb_store_digest(s)), "the manifest is not in the digest");
    tmb_store_close(s);
}

/* ------------------------------------------------------------------------------ damage */

typedef struct damage {
    const char *name, *says;
    void (*make)(hid_t file);
} damage;

static hid_t attribute(hid_t on, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Tset_size(type, strlen(text));
    if (H5Aexists(on, name) > 0) H5Adelete(on, name);
    hid_t a = H5Acreate2(on, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, type, text);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
    return on;
}

static void make_set(hid_t file, hid_t type, hsize_t n, hsize_t most, hid_t make)
{
    hid_t space = H5Screate_simple(1, &n, most ? &most : NULL);
    hid_t set = H5Dcreate2(file, "extra", type, space, H5P_DEFAULT, make, H5P_DEFAULT);
    attribute(set, "sha256", "0123456789012345678901234567890123456789012345678901234567890123");
    H5Dclose(set);
    H5Sclose(space);
}

static void external_link(hid_t file)
{
    H5Lcreate_external("/etc/passwd", "/x", file, "extra", H5P_DEFAULT, H5P_DEFAULT);
}
static void soft_link(hid_t file)
{
    H5Lcreate_soft("/names", file, "extra", H5P_DEFAULT, H5P_DEFAULT);
}
static void loop(hid_t file)
{
    H5Lcreate_hard(file, "/a", file, "/a/b/again", H5P_DEFAULT, H5P_DEFAULT);
}
static void variable_text(hid_t file)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, H5T_VARIABLE);
    make_set(file, type, 1, 0, H5P_DEFAULT);
    H5Tclose(type);
}
static void big_endian(hid_t file)
{
    make_set(file, H5T_STD_U64BE, 1, 0, H5P_DEFAULT);
}
static void compound(hid_t file)
{
    hid_t type = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(type, "x", 0, H5T_STD_U64LE);
    make_set(file, type, 1, 0, H5P_DEFAULT);
    H5Tclose(type);
}
static void other_file(hid_t file)
{
    hid_t make = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(make, "/etc/passwd", 0, 64);
    make_set(file, H5T_STD_U8LE, 64, 0, make);
    H5Pclose(make);
}
static void deflated(hid_t file)
{
    hid_t make = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk = 64;
    H5Pset_chunk(make, 1, &chunk);
    H5Pset_shuffle(make);
    make_set(file, H5T_STD_U8LE, 64, 0, make);
    H5Pclose(make);
}
static void growing(hid_t file)
{
    hid_t make = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk = 64;
    H5Pset_chunk(make, 1, &chunk);
    make_set(file, H5T_STD_U8LE, 64, H5S_UNLIMITED, make);
    H5Pclose(make);
}
static void huge(hid_t file)
{
    hid_t make = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk = 64;
    H5Pset_chunk(make, 1, &chunk);
    make_set(file, H5T_STD_U64LE, (hsize_t)1 << 50, 0, make);
    H5Pclose(make);
}
static void another_array(hid_t file)
{
    make_set(file, H5T_STD_U8LE, 4, 0, H5P_DEFAULT);
}
static void named_type(hid_t file)
{
    hid_t type = H5Tcopy(H5T_STD_U8LE);
    H5Tcommit2(file, "extra", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Tclose(type);
}
static void no_digest(hid_t file)
{
    hid_t set = H5Dopen2(file, "names", H5P_DEFAULT);
    H5Adelete(set, "sha256");
    H5Dclose(set);
}
static void other_kind(hid_t file)
{
    attribute(file, "format", "fruit");
}
static void other_content(hid_t file)
{
    hid_t set = H5Dopen2(file, "a/b/f", H5P_DEFAULT);
    float f[6] = {9, 9, 9, 9, 9, 9};
    H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, f);
    H5Dclose(set);
}

static const damage damages[] = {
    {"an external link", "extra: a link to elsewhere", external_link},
    {"a soft link", "extra: a link to elsewhere", soft_link},
    {"a group in itself", "nested too deep", loop},
    {"text of variable length", "extra: its type is none that a store has", variable_text},
    {"big-endian integers", "extra: its type is none that a store has", big_endian},
    {"a compound", "extra: its type is none that a store has", compound},
    {"bytes in another file", "extra: its bytes are in another file", other_file},
    {"a filter", "extra: it is stored through filters", deflated},
    {"no end of rows", "extra: it is meant to grow", growing},
    {"more bytes than the file", "extra: it says it has more bytes than the file", huge},
    {"an array too many", "its arrays are not those it was published with", another_array},
    {"a named type", "extra: no array and no group", named_type},
    {"an array without SHA-256", "names: it has no SHA-256", no_digest},
    {"another kind of file", "holds no test", other_kind},
    {"other values", "a/b/f: does not have its SHA-256", other_content},
};

static tmb_status read_all(const char *path, tmb_err *err)
{
    static char room[WIDE * 8];
    tmb_store *s = NULL;
    tmb_store_shape shape;
    tmb_status status = tmb_store_open(&s, path, "test", 1, err);
    for (size_t i = 0; !status && tmb_store_at(s, i); i++) {
        tmb_store_find(s, tmb_store_at(s, i), &shape);
        status =
            tmb_store_get(s, tmb_store_at(s, i), shape.type, shape.rank, shape.dims, room, err);
    }
    tmb_store_close(s);
    return status;
}

static void damaged(void)
{
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        tmb_err err = {0};
        const char *path = in_dir("bad.h5");
        tmb_status status = write_all(path, "{}", &err);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        damages[i].make(file);
        H5Fclose(file);
        if (!status) status = read_all(path, &err);
        bool fine = status == TMB_EDATA && strstr(err.message, damages[i].says) &&
                    strstr(err.message, "bad.h5");
        ok(fine, "%s is refused", damages[i].name);
        if (!fine) printf("# %d: %s\n", status, err.message);
    }
}

static void copy(const char *from, const char *to, off_t bytes, off_t flip)
{
    char command[600];
    snprintf(command, sizeof command, "cp %s %s", from, to);
    if (system(command)) abort();
    if (truncate(to, bytes)) abort();
    if (flip < 0) return;
    unsigned char b;
    int fd = open(to, O_RDWR);
    if (pread(fd, &b, 1, flip) != 1) abort();
    b ^= 0x10;
    if (pwrite(fd, &b, 1, flip) != 1) abort();
    close(fd);
}

static void broken_files(void)
{
    tmb_err err = {0};
    struct stat st;
    char whole[256];
    snprintf(whole, sizeof whole, "%s", in_dir("whole.h5"));
    if (write_all(whole, "{}", &err) || stat(whole, &st)) abort();
    bool cut = true;
    for (off_t bytes = 0; bytes < st.st_size; bytes += st.st_size / 23) {
        copy(whole, in_dir("cut.h5"), bytes, -1);
        bool fine = read_all(in_dir("cut.h5"), &err) == TMB_EDATA;
        if (!fine) printf("# cut at %lld: %s\n", (long long)bytes, err.message);
        cut = cut && fine;
    }
    ok(cut, "a file cut anywhere is refused: %s", err.message);
    bool flipped = true; /* in the data, which is nearly all of it */
    for (off_t at = st.st_size / 4; at < st.st_size / 4 * 3; at += st.st_size / 17) {
        copy(whole, in_dir("flip.h5"), st.st_size, at);
        flipped = flipped && read_all(in_dir("flip.h5"), &err) == TMB_EDATA;
    }
    ok(flipped, "a flipped bit is noticed: %s", err.message);
    ok(read_all(in_dir("no.h5"), &err) == TMB_ENOINPUT, "%s", err.message);
    ok(read_all(dir, &err) == TMB_ENOINPUT && strstr(err.message, "is no file"), "%s", err.message);
    FILE *f = fopen(in_dir("text.h5"), "w");
    fputs("no HDF5 at all, but long enough to have a signature somewhere, one would think\n", f);
    fclose(f);
    ok(read_all(in_dir("text.h5"), &err) == TMB_EDATA, "%s", err.message);
}

/* A full disk, by the limit on the size of a file. */
static void full_disk(void)
{
    tmb_err err = {0};
    struct rlimit old, limit;
    if (write_all(in_dir("full.h5"), "{}", &err)) abort();
    getrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_IGN);
    limit = (struct rlimit){.rlim_cur = 1 << 20, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    tmb_status status = write_all(in_dir("full.h5"), "{\"second\": true}", &err);
    setrlimit(RLIMIT_FSIZE, &old);
    ok(status == TMB_EIO && strstr(err.message, "full.h5"), "a full disk is an error: %s",
       err.message);
    ok(access(in_dir(".tmp-full.h5"), F_OK) != 0, "nothing of it stays");
    ok(!read_all(in_dir("full.h5"), &err), "the file that was there is whole");
    ok(write_all("/nowhere/at/all.h5", "{}", &err) == TMB_ECREATE, "%s", err.message);
}

int main(void)
{
    char command[64];
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    if (!mkdtemp(dir)) return 1;
    round_trip();
    damaged();
    broken_files();
    full_disk();
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) ? 1 : done();
}
