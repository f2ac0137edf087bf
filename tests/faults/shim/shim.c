/* Counts the durable system calls of a process, acts before the n-th, and keeps a log of them. Linux, LD_PRELOAD.

   A durable system call is one that changes, or makes durable, what lies below a root: files and folders, by path or by
   descriptor. Every variant of the C library comes down to one function here, and that one to a plain system call.

   SHIM_ROOTS   absolute folders, separated by ':'; nothing set: the shim does nothing
   SHIM_KINDS   which kinds are counted (default "owtsnm"):
                  o open to write, make or empty    r open to read   w write   t truncate, allocate
                  s fsync, fdatasync                n names: rename, link, unlink, mkdir, rmdir, ...   m chmod
   SHIM_AT      the number of the call before which to act; 0: never
   SHIM_ACTION  kill (SIGKILL), tear (half of the write, then SIGKILL), EIO or ENOSPC (the call fails), cut (the file
                system of the first root is shut down as by a power cut, then SIGKILL; needs root)
   SHIM_FROM    set: every call from that one on fails, not that one alone
   SHIM_COUNT   a file of 8 bytes, shared by all processes that name it: how many calls there were
   SHIM_TRACE   a file that gets a line for each counted call: number, kind, call, path
   SHIM_LOG     a file that gets a record of each call that succeeded, in order (one process only)

   The environment is read when the process starts, and again by shim_arm(), which a forked process calls. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define ROOTS 8

static char roots[ROOTS][PATH_MAX];
static int root_count, act_at, from_there, failure, tears, cuts, trace_fd = -1, log_fd = -1;
static char kinds[16];
static _Atomic int64_t own_count, *count = &own_count;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

struct record { /* then path, other and data, without ends */
    uint32_t kind, path, other, data;
    uint64_t inode;
    int64_t offset;
};

static const char *setting(const char *name, const char *otherwise) {
    const char *found = getenv(name);
    return found ? found : otherwise;
}

static int file(const char *name, int flags) {
    const char *path = getenv(name);
    return path && *path ? (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CREAT | O_CLOEXEC, 0600) : -1;
}

/* Read the environment and begin to count from 1 (from what SHIM_COUNT holds, if others count there, too). */
EXPORT __attribute__((constructor)) void shim_arm(void) {
    const char *action = setting("SHIM_ACTION", "");
    root_count = 0;
    act_at = atoi(setting("SHIM_AT", "0"));
    from_there = getenv("SHIM_FROM") != NULL;
    tears = strcmp(action, "tear") == 0;
    cuts = strcmp(action, "cut") == 0;
    failure = strcmp(action, "EIO") == 0 ? EIO : strcmp(action, "ENOSPC") == 0 ? ENOSPC : 0;
    snprintf(kinds, sizeof kinds, "%s", setting("SHIM_KINDS", "owtsnm"));
    trace_fd = file("SHIM_TRACE", O_WRONLY | O_APPEND);
    log_fd = file("SHIM_LOG", O_WRONLY | O_APPEND);
    int shared = file("SHIM_COUNT", O_RDWR);
    count = &own_count;
    own_count = 0;
    if (shared >= 0 && syscall(SYS_ftruncate, shared, 8L) == 0) {
        void *place = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
        if (place != MAP_FAILED) count = place;
        close(shared);
    }
    char given[PATH_MAX * 2], *rest = given, *root;
    snprintf(given, sizeof given, "%s", setting("SHIM_ROOTS", ""));
    while ((root = strsep(&rest, ":")) && root_count < ROOTS)
        if (*root) snprintf(roots[root_count++], PATH_MAX, "%s", root);
}

/* The number of this call. */
static int64_t counted(char kind, const char *call, const char *path) {
    int64_t number = atomic_fetch_add(count, 1) + 1;
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld %c %s %s\n", (long)number, kind, call, path);
    if (trace_fd >= 0) syscall(SYS_write, trace_fd, line, (size_t)length);
    return number;
}

static void die(void) {
    if (cuts) {
        uint32_t without_flushing_the_journal = 2;
        long root = syscall(SYS_openat, AT_FDCWD, roots[0], O_RDONLY | O_DIRECTORY, 0);
        if (root < 0 || ioctl((int)root, _IOR('X', 125, uint32_t), &without_flushing_the_journal)) abort();
    }
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether the call is to fail; `half` does one half of it, where a call has halves. */
static int refused(char kind, const char *call, const char *path, int fd, const struct iovec *half, off_t offset) {
    if (!strchr(kinds, kind)) return 0;
    int64_t number = counted(kind, call, path);
    if (act_at == 0 || (from_there ? number < act_at : number != act_at)) return 0;
    if (failure) {
        errno = failure;
        return 1;
    }
    if (tears && half && half->iov_len > 1) {
        if (offset < 0)
            syscall(SYS_write, fd, half->iov_base, half->iov_len / 2);
        else
            syscall(SYS_pwrite64, fd, half->iov_base, half->iov_len / 2, offset);
    }
    die();
    return 1;
}

static int path_of(int fd, char *full) {
    char link[48];
    snprintf(link, sizeof link, fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, full, (size_t)PATH_MAX - 1);
    full[length < 0 ? 0 : length] = 0;
    return length > 0;
}

/* Whether `path` (by descriptor `dir`; NULL: the descriptor itself) lies below a root; `full` becomes its whole path. */
static int below(int dir, const char *path, char *full) {
    if (root_count == 0) return 0;
    if (path && path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        if (!path_of(dir, full)) return 0;
        size_t length = strlen(full);
        if (path) snprintf(full + length, PATH_MAX - length, "/%s", path);
    }
    for (int i = 0; i < root_count; i++) {
        size_t length = strlen(roots[i]);
        if (strncmp(full, roots[i], length) == 0 && (full[length] == '/' || full[length] == 0)) return 1;
    }
    return 0;
}

static void begin(void) {
    if (log_fd >= 0) pthread_mutex_lock(&order);
}

/* Give the call's result on, with its error, after the record was written. */
static long done(long result) {
    int kept = errno;
    if (log_fd >= 0) pthread_mutex_unlock(&order);
    errno = kept;
    return result;
}

static void record(char kind, uint64_t inode, off_t offset, const char *path, const char *other, const void *data,
                   size_t bytes) {
    if (log_fd < 0) return;
    int kept = errno;
    struct record head = {(uint32_t)kind, (uint32_t)strlen(path), (uint32_t)strlen(other), (uint32_t)bytes, inode, offset};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other}, {(void *)data, bytes}};
    if (syscall(SYS_writev, log_fd, parts, 4L) < 0) abort();
    errno = kept;
}

static uint64_t inode_of(int dir, const char *path) {
    struct stat found;
    int failed = path ? fstatat(dir, path, &found, AT_SYMLINK_NOFOLLOW) : fstat(dir, &found);
    return failed ? 0 : found.st_ino;
}

/* Something for the log that is no system call: an answer that was given. */
EXPORT void shim_note(const char *text) {
    begin();
    record('!', 0, 0, "", "", text, strlen(text));
    done(0);
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    if (!below(dir, path, full)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    int changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_ACCMODE) != O_RDONLY;
    if (refused(changes ? 'o' : 'r', "open", full, -1, NULL, 0)) return -1;
    begin();
    int new = log_fd >= 0 && (flags & O_CREAT) && !inode_of(dir, path);
    long fd = syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && new)
        record('c', inode_of((int)fd, NULL), 0, full, "", "", 0);
    else if (fd >= 0 && (flags & O_TRUNC))
        record('t', inode_of((int)fd, NULL), 0, full, "", "", 0);
    return (int)done(fd);
}

#define WITH_MODE(flags, mode)                                                                                         \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                     \
        va_list given;                                                                                                 \
        va_start(given, flags);                                                                                        \
        mode = va_arg(given, mode_t);                                                                                  \
        va_end(given);                                                                                                 \
    }

EXPORT int open(const char *path, int flags, ...) {
    WITH_MODE(flags, mode)
    return open_at(AT_FDCWD, path, flags, mode);
}
EXPORT int openat(int dir, const char *path, int flags, ...) {
    WITH_MODE(flags, mode)
    return open_at(dir, path, flags, mode);
}
EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));
EXPORT int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));
EXPORT int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
EXPORT int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
EXPORT int __openat_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }
EXPORT int __openat64_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }
EXPORT int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
EXPORT int creat64(const char *path, mode_t mode) __attribute__((alias("creat")));

/* `offset` is -1 for a write at the descriptor's own position. */
static ssize_t write_all(int fd, const struct iovec *parts, int number, off_t offset) {
    char full[PATH_MAX];
    int ours = fd != trace_fd && fd != log_fd && below(fd, NULL, full);
    if (ours && refused('w', "write", full, fd, parts, offset)) return -1;
    if (ours) begin();
    ssize_t written = offset < 0 ? syscall(SYS_writev, fd, parts, (long)number)
                                 : syscall(SYS_pwritev, fd, parts, (long)number, offset, 0L);
    if (!ours) return written;
    off_t at = offset < 0 ? syscall(SYS_lseek, fd, 0L, SEEK_CUR) - written : offset;
    ssize_t left = written;
    for (int i = 0; i < number && left > 0; i++) {
        size_t bytes = (size_t)left < parts[i].iov_len ? (size_t)left : parts[i].iov_len;
        record('w', inode_of(fd, NULL), at, full, "", parts[i].iov_base, bytes);
        at += (off_t)bytes, left -= (ssize_t)bytes;
    }
    return done(written);
}

EXPORT ssize_t write(int fd, const void *data, size_t bytes) {
    return write_all(fd, &(struct iovec){(void *)data, bytes}, 1, -1);
}
EXPORT ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    return write_all(fd, &(struct iovec){(void *)data, bytes}, 1, offset);
}
EXPORT ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) __attribute__((alias("pwrite")));
EXPORT ssize_t writev(int fd, const struct iovec *parts, int number) { return write_all(fd, parts, number, -1); }
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int number, off_t offset) {
    return write_all(fd, parts, number, offset);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int number, off_t offset) __attribute__((alias("pwritev")));

/* A call by a descriptor that leaves the file with another size, or makes it durable. */
static long by_descriptor(char kind, const char *call, int fd, long number, long first, long second, long third) {
    char full[PATH_MAX];
    if (!below(fd, NULL, full)) return syscall(number, fd, first, second, third);
    if (refused(kind, call, full, -1, NULL, 0)) return -1;
    begin();
    long result = syscall(number, fd, first, second, third);
    struct stat found;
    if (result == 0 && fstat(fd, &found) == 0) record(kind, found.st_ino, found.st_size, full, "", "", 0);
    return done(result);
}

EXPORT int fsync(int fd) { return (int)by_descriptor('s', "fsync", fd, SYS_fsync, 0, 0, 0); }
EXPORT int fdatasync(int fd) { return (int)by_descriptor('s', "fdatasync", fd, SYS_fdatasync, 0, 0, 0); }
EXPORT int ftruncate(int fd, off_t size) { return (int)by_descriptor('t', "ftruncate", fd, SYS_ftruncate, size, 0, 0); }
EXPORT int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
EXPORT int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    return (int)by_descriptor('t', "fallocate", fd, SYS_fallocate, mode, offset, bytes);
}
EXPORT int fallocate64(int fd, int mode, off_t offset, off_t bytes) __attribute__((alias("fallocate")));
EXPORT int posix_fallocate(int fd, off_t offset, off_t bytes) {
    return by_descriptor('t', "fallocate", fd, SYS_fallocate, 0, offset, bytes) ? errno : 0;
}
EXPORT int posix_fallocate64(int fd, off_t offset, off_t bytes) __attribute__((alias("posix_fallocate")));
EXPORT int fchmod(int fd, mode_t mode) { return (int)by_descriptor('m', "fchmod", fd, SYS_fchmod, mode, 0, 0); }

/* A call that changes a name: `logged` is its record's kind, 0 for none; `other` is a second path, or a link's text. */
#define NAMED(logged, kind, call, dir, path, other_dir, other, inode_after, system_call)                               \
    do {                                                                                                               \
        char full[PATH_MAX], second[PATH_MAX] = "";                                                                    \
        int ours = below(dir, path, full) | ((other) ? below(other_dir, other, second) : 0);                           \
        if (!ours) return (int)(system_call);                                                                          \
        if (refused(kind, call, full, -1, NULL, 0)) return -1;                                                         \
        begin();                                                                                                       \
        long result = system_call;                                                                                     \
        if (result == 0 && (logged)) record(logged, (inode_after) ? inode_of(dir, path) : 0, 0, full, second, "", 0);  \
        return (int)done(result);                                                                                      \
    } while (0)

static int rename_at(int dir, const char *path, int to_dir, const char *to, unsigned flags) {
    NAMED('v', 'n', "rename", dir, path, to_dir, to, 0, syscall(SYS_renameat2, dir, path, to_dir, to, flags));
}
static int link_at(int dir, const char *path, int to_dir, const char *to, int flags) {
    NAMED('l', 'n', "link", to_dir, to, dir, path, 1, syscall(SYS_linkat, dir, path, to_dir, to, flags));
}
static int unlink_at(int dir, const char *path, int flags) {
    NAMED('u', 'n', flags & AT_REMOVEDIR ? "rmdir" : "unlink", dir, path, -1, (char *)NULL, 0,
          syscall(SYS_unlinkat, dir, path, flags));
}
static int mkdir_at(int dir, const char *path, mode_t mode) {
    NAMED('d', 'n', "mkdir", dir, path, -1, (char *)NULL, 1, syscall(SYS_mkdirat, dir, path, mode));
}
static int mknod_at(int dir, const char *path, mode_t mode, dev_t device) {
    NAMED('c', 'n', "mknod", dir, path, -1, (char *)NULL, 1, syscall(SYS_mknodat, dir, path, mode, device));
}
static int chmod_at(int dir, const char *path, mode_t mode) {
    NAMED(0, 'm', "chmod", dir, path, -1, (char *)NULL, 0, syscall(SYS_fchmodat, dir, path, mode));
}
static int symlink_at(const char *text, int dir, const char *path) {
    char full[PATH_MAX];
    if (!below(dir, path, full)) return (int)syscall(SYS_symlinkat, text, dir, path);
    if (refused('n', "symlink", full, -1, NULL, 0)) return -1;
    begin();
    long result = syscall(SYS_symlinkat, text, dir, path);
    if (result == 0) record('y', inode_of(dir, path), 0, full, text, "", 0);
    return (int)done(result);
}

EXPORT int rename(const char *path, const char *to) { return rename_at(AT_FDCWD, path, AT_FDCWD, to, 0); }
EXPORT int renameat(int dir, const char *path, int to_dir, const char *to) { return rename_at(dir, path, to_dir, to, 0); }
EXPORT int renameat2(int dir, const char *path, int to_dir, const char *to, unsigned flags) {
    return rename_at(dir, path, to_dir, to, flags);
}
EXPORT int link(const char *path, const char *to) { return link_at(AT_FDCWD, path, AT_FDCWD, to, 0); }
EXPORT int linkat(int dir, const char *path, int to_dir, const char *to, int flags) {
    return link_at(dir, path, to_dir, to, flags);
}
EXPORT int symlink(const char *text, const char *path) { return symlink_at(text, AT_FDCWD, path); }
EXPORT int symlinkat(const char *text, int dir, const char *path) { return symlink_at(text, dir, path); }
EXPORT int unlink(const char *path) { return unlink_at(AT_FDCWD, path, 0); }
EXPORT int unlinkat(int dir, const char *path, int flags) { return unlink_at(dir, path, flags); }
EXPORT int rmdir(const char *path) { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int mkdir(const char *path, mode_t mode) { return mkdir_at(AT_FDCWD, path, mode); }
EXPORT int mkdirat(int dir, const char *path, mode_t mode) { return mkdir_at(dir, path, mode); }
EXPORT int mknod(const char *path, mode_t mode, dev_t device) { return mknod_at(AT_FDCWD, path, mode, device); }
EXPORT int mknodat(int dir, const char *path, mode_t mode, dev_t device) { return mknod_at(dir, path, mode, device); }
EXPORT int chmod(const char *path, mode_t mode) { return chmod_at(AT_FDCWD, path, mode); }
EXPORT int fchmodat(int dir, const char *path, mode_t mode, int flags) {
    (void)flags;
    return chmod_at(dir, path, mode);
}
EXPORT int truncate(const char *path, off_t size) {
    NAMED(0, 't', "truncate", AT_FDCWD, path, -1, (char *)NULL, 0, syscall(SYS_truncate, path, size));
}
