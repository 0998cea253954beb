#include "config.h"
#include "moe/io/calls.h"
#include "moe/io/files.h"
#include "tests/tap.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int count_files(void)
{
    int n = 0;
    DIR *dir = opendir(".");
    for (struct dirent *e; dir && (e = readdir(dir));)
        n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
    if (dir) closedir(dir);
    return n;
}

static void test_digest(void)
{
    char hex[TMB_SHA256_HEX];
    tmb_err err;
    /* FIPS 180-4 examples. */
    ok(!tmb_sha256("abc", 3, hex, &err) &&
           !strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
       "SHA-256 of abc");
    ok(!tmb_sha256("", 0, hex, &err) &&
           !strcmp(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
       "SHA-256 of nothing");
}

static void test_publish(int dir)
{
    tmb_err err;
    char *text, hex[TMB_SHA256_HEX], want[TMB_SHA256_HEX];
    size_t n;
    uint64_t bytes = 0;
    ok(!tmb_file_publish(dir, ".", "a", "hello", 5, &err) && count_files() == 1,
       "published, nothing beside it");
    ok(!tmb_file_load(&text, &n, dir, "a", 5, &err) && n == 5 && strcmp(text, "hello") == 0,
       "and loaded");
    free(text);
    ok(tmb_file_load(&text, &n, dir, "a", 4, &err) == TMB_EDATA &&
           strcmp(err.message, "a: has 5 bytes, 4 are allowed; fetch the file again") == 0,
       "at most so many bytes");
    ok(!tmb_file_publish(dir, ".", "a", "", 0, &err) &&
           !tmb_file_load(&text, &n, dir, "a", 5, &err) && n == 0,
       "replaced by an empty file");
    free(text);
    size_t big = (3 << 20) + 7;
    char *data = malloc(big);
    if (!data) exit(1);
    for (size_t i = 0; i < big; i++)
        data[i] = (char)(i * i >> 7);
    ok(!tmb_file_publish(dir, ".", "b", data, big, &err) &&
           !tmb_file_copy(dir, dir, ".", "b", hex, &bytes, &err) && bytes == big,
       "a file copied onto itself stays whole");
    ok(!tmb_sha256(data, big, want, &err) && strcmp(hex, want) == 0,
       "with the checksum of its bytes");
    free(data);
    ok(tmb_file_publish(dir, ".", "no/a", "x", 1, &err) == TMB_ECREATE, "no folder: %s",
       err.message);
    close(open(".tmp-c", O_CREAT | O_WRONLY, 0600));
    ok(!tmb_file_publish(dir, ".", "c", "x", 1, &err) && count_files() == 3,
       "what a killed run left is taken over");
    ok(!tmb_disk_free(dir, ".", &bytes, &err) && bytes > 0, "there is some space");
}

static void test_open(int dir)
{
    tmb_err err;
    struct stat st;
    int fd;
    ok(tmb_file_open(&fd, &st, dir, "gone", "gone", &err) == TMB_ENOINPUT, "missing: %s",
       err.message);
    ok(tmb_file_open(&fd, &st, dir, "../a", "../a", &err) == TMB_EINTERNAL, "only base names");
    ok(!symlink("/etc/passwd", "l") && tmb_file_open(&fd, &st, dir, "l", "l", &err) == TMB_EDATA,
       "a link out");
    char *text = NULL;
    size_t n;
    ok(!symlink("c", "m") && !tmb_file_load(&text, &n, dir, "m", 9, &err) && n == 1,
       "a link inside");
    free(text);
    ok(tmb_file_load(&text, &n, AT_FDCWD, "/dev/zero", 9, &err) == TMB_ENOINPUT, "a device: %s",
       err.message);
}

/* What is opened in a folder is in it, though somebody swaps names for links meanwhile. */
static void test_beneath(int dir)
{
    int fd = tmb_open_beneath(dir, "c", O_RDONLY | O_CLOEXEC, 0);
    ok(fd >= 0, "a file of the folder");
    close(fd);
    ok(tmb_open_beneath(dir, "m", O_RDONLY | O_CLOEXEC, 0) < 0 && errno == ELOOP, "no link");
    ok(tmb_open_beneath(dir, "m", O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == ELOOP,
       "no link in place of a file to be made");
    fd = tmb_open_beneath(dir, "made", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    struct stat st;
    ok(fd >= 0 && !fstat(fd, &st) && !(st.st_mode & 0137), "a file that is made, with its mode");
    close(fd);
    unlink("made");
#if defined HAVE_LINUX_OPENAT2_H && defined SYS_openat2
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC};
    long has = syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how);
    if (has >= 0) {
        close((int)has);
        mkdir("sub", 0700);
        ok(!symlink(".", "sub/here") && tmb_open_beneath(dir, "sub/here/here", O_RDONLY, 0) < 0 &&
               errno == ELOOP,
           "openat2: no link on the way either");
        ok(tmb_open_beneath(dir, "../x", O_RDONLY, 0) < 0 && errno == EXDEV,
           "openat2: not out of the folder");
        unlink("sub/here");
        rmdir("sub");
    }
#endif
}

static void test_io_errors(int dir)
{
    tmb_err err;
    char buf[16];
    int fd = open("a", O_RDWR | O_CREAT | O_TRUNC, 0600);
    ok(tmb_file_pread(fd, buf, 4, 0, "a", &err) == TMB_EIO &&
           strcmp(err.message, "a: ends at byte 0, 4 short; it was cut while being read") == 0,
       "reading past the end");
    ok(tmb_file_pread(fd, buf, 4, UINT64_MAX, "a", &err) == TMB_EIO, "an offset that wraps");
    close(fd);
    fd = open("/dev/full", O_WRONLY);
    ok(fd >= 0 && tmb_file_pwrite(fd, "x", 1, 0, "out/a", &err) == TMB_ECREATE &&
           strcmp(err.message,
                  "out/a: the disk is full in folder out; free some space and run again") == 0,
       "a full disk");
    close(fd);
    struct rlimit limit = {4096, 4096}; /* of file size: a short write, then EFBIG */
    signal(SIGXFSZ, SIG_IGN);
    static char data[8192];
    setrlimit(RLIMIT_FSIZE, &limit);
    int before = count_files();
    ok(tmb_file_publish(dir, ".", "d", data, sizeof data, &err) == TMB_EIO &&
           strcmp(err.message, "./d: cannot write: File too large; the file system or a limit "
                               "(ulimit -f) allows no larger file") == 0 &&
           count_files() == before,
       "a write that fails half-way leaves nothing");
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    char folder[256];
    snprintf(folder, sizeof folder, "%s/tombac-files-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder) || chdir(folder)) return 1;
    int dir = open(".", O_RDONLY | O_DIRECTORY);
    test_digest();
    test_publish(dir);
    test_open(dir);
    test_beneath(dir);
    test_io_errors(dir);
    static const char *const made[] = {"a", "b", "c", "l", "m"};
    for (int i = 0; i < 5; i++)
        unlink(made[i]);
    ok(chdir("/") == 0 && rmdir(folder) == 0, "nothing else is left");
    return done();
}
