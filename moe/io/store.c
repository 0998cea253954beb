/* store.c - named arrays in HDF5, which is included nowhere else. */
#include "config.h"
#include "moe/io/store.h"

#include "moe/io/store_table.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 19, NAMES = 512 };

struct tmb_store {
    char *path, *temporary; /* temporary NULL: reading, or published */
    hid_t file;
    uint64_t file_bytes;
    uint32_t version;
    char digest[TMB_SHA256_HEX];
    tmb_store_table table; /* sorted when reading, and once published */
    /* the array at hand */
    hid_t dataset;
    tmb_store_array *now;
    uint64_t row;           /* next */
    tmb_sha256_stream *sum; /* of the array at hand */
};

/* ------------------------------------------------------------------------------ errors, names */

static herr_t deepest(unsigned n, const H5E_error2_t *e, void *to)
{
    if (n == 0 && e->desc) snprintf(to, NAMES, "%s", e->desc);
    return 0;
}

static tmb_status h5_fail(const tmb_store *s, const char *name, const char *what, tmb_status status,
                          tmb_err *err)
{
    char why[NAMES] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, deepest, why);
    return tmb_fail(err, status, "%s: %s%scannot %s (HDF5: %.200s)", s->path, name ? name : "",
                    name ? ": " : "", what, why);
}

/* Every call of HDF5 forgets the errors of the one before: they are kept while handles go back. */
static hid_t keep_errors(bool failed)
{
    return failed ? H5Eget_current_stack() : H5I_INVALID_HID;
}
static void put_errors(hid_t errors)
{
    if (errors >= 0) H5Eset_current_stack(errors);
}

static tmb_status bad(const tmb_store *s, const char *name, const char *what, tmb_err *err)
{
    return tmb_fail(err, TMB_EDATA, "%s: %s: %s; it is damaged or not written by tombac", s->path,
                    name, what);
}

static hid_t h5_type(tmb_store_type type, uint32_t width)
{
    switch (type) {
    case TMB_STORE_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case TMB_STORE_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case TMB_STORE_U32:
        return H5Tcopy(H5T_STD_U32LE);
    case TMB_STORE_I64:
        return H5Tcopy(H5T_STD_I64LE);
    case TMB_STORE_U64:
        return H5Tcopy(H5T_STD_U64LE);
    case TMB_STORE_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case TMB_STORE_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    default:
        break;
    }
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, width);
    H5Tset_strpad(t, H5T_STR_NULLPAD);
    H5Tset_cset(t, H5T_CSET_UTF8);
    return t;
}

/* The library must not run its own clean-up at exit: after a full disk that crashes. */
static void quiet(void)
{
    H5dont_atexit();
    H5open();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0); /* no plugin is loaded because a file asks for its filter */
}

static tmb_status store_new(tmb_store **out, const char *path, tmb_err *err)
{
    tmb_store *s = calloc(1, sizeof *s);
    if (!s) return tmb_fail_memory(err, sizeof *s, "a store");
    s->file = s->dataset = H5I_INVALID_HID;
    s->path = strdup(path);
    *out = s;
    return s->path ? TMB_OK : tmb_fail_memory(err, strlen(path), "a store");
}

/* ------------------------------------------------------------------------------ writing */

static bool put_attribute(hid_t on, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t a = H5Acreate2(on, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool fine = a >= 0 && H5Awrite(a, type, value) >= 0;
    if (a >= 0) fine = H5Aclose(a) >= 0 && fine;
    H5Sclose(space);
    return fine;
}

static bool put_text_attribute(hid_t on, const char *name, const char *text)
{
    hid_t type = h5_type(TMB_STORE_TEXT, (uint32_t)strlen(text));
    bool fine = put_attribute(on, name, type, text);
    H5Tclose(type);
    return fine;
}

tmb_status tmb_store_create(tmb_store **out, const char *path, const char *kind, uint32_t version,
                            tmb_err *err)
{
    *out = NULL;
    tmb_store *s = NULL;
    quiet();
    tmb_status status = store_new(&s, path, err);
    hid_t access = H5I_INVALID_HID, make = H5I_INVALID_HID;
    if (status) goto out;
    const char *base = strrchr(path, '/');
    size_t folder = base ? (size_t)(base - path) + 1 : 0, n = strlen(path) + 8;
    s->temporary = malloc(n);
    if (!s->temporary) {
        status = tmb_fail_memory(err, n, "a name");
        goto out;
    }
    snprintf(s->temporary, n, "%.*s.tmp-%s", (int)folder, path, path + folder);
    unlink(s->temporary);
    access = H5Pcreate(H5P_FILE_ACCESS);
    make = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    H5Pset_file_locking(access, 0, 1);
    H5Pset_obj_track_times(make, 0);
    s->file = H5Fcreate(s->temporary, H5F_ACC_EXCL, make, access);
    s->version = version;
    hid_t u32 = H5T_STD_U32LE;
    if (s->file < 0)
        status = h5_fail(s, NULL, "create", TMB_ECREATE, err);
    else if (!put_text_attribute(s->file, "format", kind) ||
             !put_attribute(s->file, "format_version", u32, &version))
        status = h5_fail(s, NULL, "write", TMB_EIO, err);
out:
    if (access >= 0) H5Pclose(access);
    if (make >= 0) H5Pclose(make);
    if (status) {
        tmb_store_close(s);
        return status;
    }
    *out = s;
    return TMB_OK;
}

/* How an array lies in the file: chunks of rows up to CHUNK_BYTES with a checksum each. */
static hid_t lay_out(const tmb_store_shape *shape, uint64_t bytes)
{
    hid_t make = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk[TMB_STORE_RANK];
    H5Pset_obj_track_times(make, 0);
    H5Pset_fill_time(make, H5D_FILL_TIME_NEVER);
    if (!bytes) return make;
    for (int d = 0; d < shape->rank; d++)
        chunk[d] = shape->dims[d];
    uint64_t row = bytes / shape->dims[0], rows = CHUNK_BYTES / row;
    chunk[0] = rows < 1 ? 1 : rows < shape->dims[0] ? rows : shape->dims[0];
    for (int d = 1; d < shape->rank && row > (uint64_t)1 << 30; d++) { /* chunks are below 4 GiB */
        row /= chunk[d];
        chunk[d] = 1;
    }
    H5Pset_chunk(make, shape->rank, chunk);
    H5Pset_fletcher32(make);
    return make;
}

/* The groups on the way to name.  Not left to HDF5, which would give them the time of day. */
static bool make_groups(const tmb_store *s, const char *name)
{
    char prefix[TMB_STORE_NAME];
    hid_t make = H5Pcreate(H5P_GROUP_CREATE);
    bool fine = H5Pset_obj_track_times(make, 0) >= 0;
    for (const char *p = name; fine && (p = strchr(p, '/')); p++) {
        snprintf(prefix, sizeof prefix, "%.*s", (int)(p - name), name);
        if (H5Lexists(s->file, prefix, H5P_DEFAULT) > 0) continue;
        hid_t group = H5Gcreate2(s->file, prefix, H5P_DEFAULT, make, H5P_DEFAULT);
        fine = group >= 0 && H5Gclose(group) >= 0;
    }
    H5Pclose(make);
    return fine;
}

static tmb_status begin_width(tmb_store *s, const char *name, const tmb_store_shape *shape,
                              tmb_err *err)
{
    uint64_t bytes;
    hsize_t dims[TMB_STORE_RANK];
    if (!tmb_store_whole_bytes(shape, &bytes) || strlen(name) >= TMB_STORE_NAME)
        return tmb_fail(err, TMB_EINTERNAL, "%s: %.200s: too large", s->path, name);
    for (int d = 0; d < shape->rank; d++)
        dims[d] = shape->dims[d];
    hid_t type = h5_type(shape->type, shape->width);
    hid_t space = H5Screate_simple(shape->rank, dims, NULL);
    hid_t make = lay_out(shape, bytes);
    s->dataset = make_groups(s, name)
                     ? H5Dcreate2(s->file, name, type, space, H5P_DEFAULT, make, H5P_DEFAULT)
                     : H5I_INVALID_HID;
    hid_t errors = keep_errors(s->dataset < 0);
    H5Pclose(make);
    H5Sclose(space);
    H5Tclose(type);
    put_errors(errors);
    if (s->dataset < 0) return h5_fail(s, name, "create", TMB_EIO, err);
    s->row = 0;
    TRY(tmb_sha256_open(&s->sum, err));
    return tmb_store_table_add(&s->table, &s->now, s->path, name, shape, err);
}

tmb_status tmb_store_begin(tmb_store *s, const char *name, tmb_store_type type, int rank,
                           const uint64_t *dims, tmb_err *err)
{
    tmb_store_shape shape = {.type = type, .rank = rank, .width = tmb_store_width(type)};
    memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    return begin_width(s, name, &shape, err);
}

/* Move rows between memory and the array at hand. */
static bool move_rows(tmb_store *s, void *rows, uint64_t n, bool write)
{
    const tmb_store_shape *shape = &s->now->shape;
    hsize_t start[TMB_STORE_RANK] = {s->row}, count[TMB_STORE_RANK] = {n};
    for (int d = 1; d < shape->rank; d++)
        count[d] = shape->dims[d];
    hid_t type = h5_type(shape->type, shape->width);
    hid_t space = H5Dget_space(s->dataset), memory = H5Screate_simple(shape->rank, count, NULL);
    bool fine = space >= 0 && memory >= 0 &&
                H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
    if (fine && write)
        fine = H5Dwrite(s->dataset, type, memory, space, H5P_DEFAULT, rows) >= 0;
    else if (fine)
        fine = H5Dread(s->dataset, type, memory, space, H5P_DEFAULT, rows) >= 0;
    hid_t errors = keep_errors(!fine);
    H5Sclose(memory);
    H5Sclose(space);
    H5Tclose(type);
    put_errors(errors);
    s->row += n;
    return fine;
}

tmb_status tmb_store_more(tmb_store *s, const void *rows, uint64_t n, tmb_err *err)
{
    uint64_t bytes = tmb_store_row_bytes(&s->now->shape) * n;
    if (!bytes) return TMB_OK;
    if (!move_rows(s, (void *)(uintptr_t)rows, n, true))
        return h5_fail(s, s->now->name, "write", TMB_EIO, err);
    return tmb_sha256_add(s->sum, rows, bytes, err);
}

static tmb_status end_sum(tmb_store *s, char out[TMB_SHA256_HEX], tmb_err *err)
{
    tmb_status status = tmb_sha256_end(s->sum, out, err);
    tmb_sha256_close(s->sum);
    s->sum = NULL;
    return status;
}

tmb_status tmb_store_end(tmb_store *s, tmb_err *err)
{
    TRY(end_sum(s, s->now->sha256, err));
    bool fine = put_text_attribute(s->dataset, "sha256", s->now->sha256);
    fine = H5Dclose(s->dataset) >= 0 && fine;
    s->dataset = H5I_INVALID_HID;
    return fine ? TMB_OK : h5_fail(s, s->now->name, "write", TMB_EIO, err);
}

tmb_status tmb_store_put(tmb_store *s, const char *name, tmb_store_type type, int rank,
                         const uint64_t *dims, const void *data, tmb_err *err)
{
    TRY(tmb_store_begin(s, name, type, rank, dims, err));
    TRY(tmb_store_more(s, data, dims[0], err));
    return tmb_store_end(s, err);
}

tmb_status tmb_store_put_texts(tmb_store *s, const char *name, const char *const *texts, uint64_t n,
                               tmb_err *err)
{
    tmb_store_shape shape = {.type = TMB_STORE_TEXT, .rank = 1, .dims = {n}, .width = 1};
    uint64_t bytes;
    for (uint64_t i = 0; i < n; i++)
        if (strlen(texts[i]) > shape.width) shape.width = (uint32_t)strlen(texts[i]);
    if (shape.width > TMB_STORE_WIDTH || !tmb_store_whole_bytes(&shape, &bytes))
        return tmb_fail(err, TMB_EINTERNAL, "%s: %s: a text is too long", s->path, name);
    char *all = calloc(1, bytes ? bytes : 1);
    if (!all) return tmb_fail_memory(err, bytes, "texts");
    for (uint64_t i = 0; i < n; i++)
        memcpy(all + i * shape.width, texts[i], strlen(texts[i]));
    tmb_status status = begin_width(s, name, &shape, err);
    if (!status) status = tmb_store_more(s, all, n, err);
    if (!status) status = tmb_store_end(s, err);
    free(all);
    return status;
}

tmb_status tmb_store_publish(tmb_store *s, tmb_err *err)
{
    tmb_store_table_sort(&s->table);
    TRY(tmb_store_table_digest(&s->table, s->digest, err));
    bool fine = put_text_attribute(s->file, "content_sha256", s->digest);
    fine = H5Fclose(s->file) >= 0 && fine;
    s->file = H5I_INVALID_HID;
    if (!fine) return h5_fail(s, NULL, "write", TMB_EIO, err);
    bool renamed = false;
    tmb_status status = tmb_store_rename(s->temporary, s->path, &renamed, err);
    if (renamed) {
        free(s->temporary);
        s->temporary = NULL;
    }
    return status;
}

/* ------------------------------------------------------------------------------ reading */

/* An attribute that is a text of fixed width into out [size]. */
static bool get_text_attribute(hid_t on, const char *name, char *out, size_t size)
{
    hid_t a = H5Aopen(on, name, H5P_DEFAULT);
    hid_t type = a >= 0 ? H5Aget_type(a) : -1, space = a >= 0 ? H5Aget_space(a) : -1;
    memset(out, 0, size);
    bool fine = type >= 0 && H5Tget_class(type) == H5T_STRING && !H5Tis_variable_str(type) &&
                H5Tget_size(type) < size && H5Sget_simple_extent_npoints(space) == 1 &&
                H5Aread(a, type, out) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (a >= 0) H5Aclose(a);
    return fine;
}

static bool get_u32_attribute(hid_t on, const char *name, uint32_t *out)
{
    hid_t a = H5Aopen(on, name, H5P_DEFAULT);
    hid_t type = a >= 0 ? H5Aget_type(a) : -1, space = a >= 0 ? H5Aget_space(a) : -1;
    bool fine = type >= 0 && H5Tequal(type, H5T_STD_U32LE) > 0 &&
                H5Sget_simple_extent_npoints(space) == 1 && H5Aread(a, H5T_NATIVE_UINT32, out) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    if (a >= 0) H5Aclose(a);
    return fine;
}

/* Type and shape of a dataset; NULL or what is wrong with it. */
static const char *examine(const tmb_store *s, hid_t set, tmb_store_shape *shape)
{
    const char *wrong = NULL;
    hid_t type = H5Dget_type(set), space = H5Dget_space(set), make = H5Dget_create_plist(set);
    hsize_t dims[H5S_MAX_RANK] = {0}, most[H5S_MAX_RANK] = {0};
    uint64_t bytes;
    memset(shape, 0, sizeof *shape);
    shape->type = TMB_STORE_TYPES;
    for (int t = 0; t < TMB_STORE_TEXT && type >= 0; t++) {
        hid_t known = h5_type((tmb_store_type)t, 0);
        if (H5Tequal(type, known) > 0) shape->type = (tmb_store_type)t;
        H5Tclose(known);
    }
    if (type >= 0 && H5Tget_class(type) == H5T_STRING && !H5Tis_variable_str(type))
        shape->type = TMB_STORE_TEXT;
    if (type < 0 || space < 0 || make < 0)
        wrong = "its description cannot be read";
    else if (shape->type == TMB_STORE_TYPES || !H5Tget_size(type) ||
             H5Tget_size(type) > TMB_STORE_WIDTH)
        wrong = "its type is none that a store has";
    else if (H5Sget_simple_extent_type(space) != H5S_SIMPLE ||
             H5Sget_simple_extent_ndims(space) < 1 ||
             H5Sget_simple_extent_ndims(space) > TMB_STORE_RANK)
        wrong = "it has not 1 to 4 dimensions";
    else if (H5Pget_layout(make) == H5D_VIRTUAL || H5Pget_external_count(make) != 0)
        wrong = "its bytes are in another file";
    else if (H5Pget_nfilters(make) > 1 ||
             (H5Pget_nfilters(make) == 1 && !H5Pall_filters_avail(make)))
        wrong = "it is stored through filters";
    if (!wrong && H5Pget_nfilters(make) == 1) {
        unsigned flags, config;
        size_t n = 0;
        if (H5Pget_filter2(make, 0, &flags, &n, NULL, 0, NULL, &config) != H5Z_FILTER_FLETCHER32)
            wrong = "it is stored through filters";
    }
    if (!wrong) {
        shape->width = (uint32_t)H5Tget_size(type);
        shape->rank = H5Sget_simple_extent_dims(space, dims, most);
        for (int d = 0; d < shape->rank && !wrong; d++) {
            shape->dims[d] = dims[d];
            if (most[d] != dims[d]) wrong = "it is meant to grow";
        }
        if (!wrong && (!tmb_store_whole_bytes(shape, &bytes) || bytes > s->file_bytes))
            wrong = "it says it has more bytes than the file";
    }
    if (make >= 0) H5Pclose(make);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return wrong;
}

static tmb_status walk(tmb_store *s, hid_t group, const char *prefix, int depth, tmb_err *err);

static tmb_status walk_object(tmb_store *s, hid_t object, const char *name, int depth, tmb_err *err)
{
    tmb_store_shape shape;
    if (H5Iget_type(object) == H5I_GROUP) {
        if (depth >= TMB_STORE_DEPTH) return bad(s, name, "groups are nested too deep", err);
        return walk(s, object, name, depth + 1, err);
    }
    if (H5Iget_type(object) != H5I_DATASET) return bad(s, name, "no array and no group", err);
    const char *wrong = examine(s, object, &shape);
    if (wrong) return bad(s, name, wrong, err);
    tmb_store_array *a;
    TRY(tmb_store_table_add(&s->table, &a, s->path, name, &shape, err));
    if (!get_text_attribute(object, "sha256", a->sha256, sizeof a->sha256) ||
        strlen(a->sha256) != TMB_SHA256_HEX - 1)
        return bad(s, name, "it has no SHA-256", err);
    return TMB_OK;
}

static tmb_status walk(tmb_store *s, hid_t group, const char *prefix, int depth, tmb_err *err)
{
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0) return h5_fail(s, prefix, "read", TMB_EDATA, err);
    if (info.nlinks > TMB_STORE_ARRAYS) return bad(s, prefix, "too many members", err);
    for (hsize_t i = 0; i < info.nlinks; i++) {
        char leaf[TMB_STORE_NAME] = "", name[TMB_STORE_NAME + 1];
        H5L_info_t link;
        ssize_t n = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, leaf, sizeof leaf,
                                       H5P_DEFAULT);
        if (n <= 0 || n >= TMB_STORE_NAME ||
            snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "/" : "", leaf) >=
                TMB_STORE_NAME)
            return bad(s, prefix, "a name is too long", err);
        if (H5Lget_info(group, leaf, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
            return bad(s, name, "a link to elsewhere", err);
        hid_t object = H5Oopen(group, leaf, H5P_DEFAULT);
        if (object < 0) return h5_fail(s, name, "read", TMB_EDATA, err);
        tmb_status status = walk_object(s, object, name, depth, err);
        H5Oclose(object);
        if (status) return status;
    }
    return TMB_OK;
}

static tmb_status open_file(tmb_store *s, const char *kind, uint32_t version, tmb_err *err)
{
    struct stat st;
    char text[TMB_SHA256_HEX] = "";
    if (stat(s->path, &st)) return tmb_fail_errno(err, TMB_ENOINPUT, "%s: cannot open", s->path);
    if (!S_ISREG(st.st_mode)) return tmb_fail(err, TMB_ENOINPUT, "%s: is no file", s->path);
    s->file_bytes = (uint64_t)st.st_size;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, 0, 1);
    s->file = H5Fopen(s->path, H5F_ACC_RDONLY, access);
    hid_t errors = keep_errors(s->file < 0);
    H5Pclose(access);
    put_errors(errors);
    if (s->file < 0)
        return h5_fail(s, NULL, "be read as HDF5; it is cut off, or no file of that kind",
                       TMB_EDATA, err);
    if (!get_text_attribute(s->file, "format", text, sizeof text) || strcmp(text, kind))
        return tmb_fail(err, TMB_EDATA, "%s: holds no %s", s->path, kind);
    if (!get_u32_attribute(s->file, "format_version", &s->version))
        return tmb_fail(err, TMB_EDATA, "%s: has no format version", s->path);
    if (s->version < 1 || s->version > version)
        return tmb_fail(err, TMB_EDATA,
                        "%s: has version %u of the format; this program reads 1 to %u", s->path,
                        s->version, version);
    TRY(walk(s, s->file, "", 0, err));
    tmb_store_table_sort(&s->table);
    if (!get_text_attribute(s->file, "content_sha256", text, sizeof text))
        return tmb_fail(err, TMB_EDATA, "%s: has no SHA-256 of its content", s->path);
    TRY(tmb_store_table_digest(&s->table, s->digest, err));
    if (strcmp(text, s->digest))
        return tmb_fail(err, TMB_EDATA,
                        "%s: its arrays are not those it was published with (SHA-256 %.8s…, not "
                        "%.8s…)",
                        s->path, s->digest, text);
    return TMB_OK;
}

tmb_status tmb_store_open(tmb_store **out, const char *path, const char *kind, uint32_t version,
                          tmb_err *err)
{
    *out = NULL;
    tmb_store *s = NULL;
    quiet();
    tmb_status status = store_new(&s, path, err);
    if (!status) status = open_file(s, kind, version, err);
    if (status)
        tmb_store_close(s);
    else
        *out = s;
    return status;
}

bool tmb_store_find(const tmb_store *s, const char *name, tmb_store_shape *shape)
{
    const tmb_store_array *a = tmb_store_table_find(&s->table, name);
    if (a && shape) *shape = a->shape;
    return a != NULL;
}

const char *tmb_store_at(const tmb_store *s, size_t i)
{
    return i < s->table.n ? s->table.arrays[i].name : NULL;
}

tmb_status tmb_store_missing(const tmb_store *s, const char *name, tmb_err *err)
{
    return bad(s, name, "is missing", err);
}

tmb_status tmb_store_get_begin(tmb_store *s, const char *name, tmb_store_type type, int rank,
                               const uint64_t *dims, tmb_err *err)
{
    tmb_store_array *a = tmb_store_table_find(&s->table, name);
    if (!a) return tmb_store_missing(s, name, err);
    bool fits = a->shape.type == type && a->shape.rank == rank;
    for (int d = 0; d < rank && fits; d++)
        fits = dims[d] == UINT64_MAX || dims[d] == a->shape.dims[d];
    if (!fits) return bad(s, name, "has another type or shape than it must", err);
    s->dataset = H5Dopen2(s->file, name, H5P_DEFAULT);
    if (s->dataset < 0) return h5_fail(s, name, "read", TMB_EDATA, err);
    s->now = a;
    s->row = 0;
    return tmb_sha256_open(&s->sum, err);
}

tmb_status tmb_store_get_more(tmb_store *s, void *rows, uint64_t n, tmb_err *err)
{
    uint64_t bytes = tmb_store_row_bytes(&s->now->shape) * n;
    if (!bytes) return TMB_OK;
    if (!move_rows(s, rows, n, false)) return h5_fail(s, s->now->name, "read", TMB_EDATA, err);
    return tmb_sha256_add(s->sum, rows, bytes, err);
}

tmb_status tmb_store_get_end(tmb_store *s, tmb_err *err)
{
    char sha256[TMB_SHA256_HEX];
    H5Dclose(s->dataset);
    s->dataset = H5I_INVALID_HID;
    TRY(end_sum(s, sha256, err));
    return strcmp(sha256, s->now->sha256) ? bad(s, s->now->name, "does not have its SHA-256", err)
                                          : TMB_OK;
}

tmb_status tmb_store_get(tmb_store *s, const char *name, tmb_store_type type, int rank,
                         const uint64_t *dims, void *out, tmb_err *err)
{
    TRY(tmb_store_get_begin(s, name, type, rank, dims, err));
    TRY(tmb_store_get_more(s, out, s->now->shape.dims[0], err));
    return tmb_store_get_end(s, err);
}

const char *tmb_store_digest(const tmb_store *s)
{
    return s->digest;
}

const char *tmb_store_path(const tmb_store *s)
{
    return s->path;
}

uint32_t tmb_store_version(const tmb_store *s)
{
    return s->version;
}

void tmb_store_close(tmb_store *s)
{
    if (!s) return;
    if (s->dataset >= 0) H5Dclose(s->dataset);
    if (s->file >= 0) H5Fclose(s->file);
    if (s->temporary) unlink(s->temporary);
    tmb_store_table_free(&s->table);
    tmb_sha256_close(s->sum);
    free(s->temporary);
    free(s->path);
    free(s);
}
