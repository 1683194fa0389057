/* Writes down what a process does to one file, in the order in which it does it. tests/power.rs
 * compiles it, has the loader put it before the C library, and reads the log: for each event a
 * kind, an offset and a length, 8 bytes each, then the bytes if it is a write. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, SYNC_OF_WRITE = 2, SYNC = 3, OTHER = 4 };

/* The function of the C library that has the name of this one. */
#define NEXT(result, name, ...)                                  \
    static result (*next)(__VA_ARGS__);                          \
    if (next == NULL) {                                          \
        *(void **)&next = dlsym(RTLD_NEXT, name);                \
        if (next == NULL) abort();                               \
    }

static int is_recorded(int fd) {
    int before = errno;
    const char *path = getenv("SPINNEY_RECORDED");
    struct stat open, named;
    int same = path != NULL && fstat(fd, &open) == 0 && stat(path, &named) == 0 &&
               open.st_dev == named.st_dev && open.st_ino == named.st_ino;
    errno = before;
    return same;
}

static void record(enum kind kind, off_t offset, const struct iovec *parts, int count,
                   size_t length) {
    static int log = -1;
    int before = errno;
    if (log < 0) {
        log = (int)syscall(SYS_openat, AT_FDCWD, getenv("SPINNEY_LOG"),
                           O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
    uint64_t header[3] = {kind, (uint64_t)offset, length};
    if (syscall(SYS_write, log, header, sizeof header) != sizeof header) abort();
    for (int i = 0; i < count && length > 0; i++) {
        size_t part = parts[i].iov_len < length ? parts[i].iov_len : length;
        if (syscall(SYS_write, log, parts[i].iov_base, part) != (ssize_t)part) abort();
        length -= part;
    }
    errno = before;
}

static void record_write(int fd, off_t offset, const struct iovec *parts, int count,
                         ssize_t written) {
    if (written <= 0 || !is_recorded(fd)) return;
    record(WRITE, offset, parts, count, (size_t)written);
    if (fcntl(fd, F_GETFL) & O_DSYNC) record(SYNC_OF_WRITE, 0, NULL, 0, 0);
}

static void record_call(enum kind kind, int fd, int result) {
    if (result == 0 && is_recorded(fd)) record(kind, 0, NULL, 0, 0);
}

#define PWRITE(name)                                                              \
    ssize_t name(int fd, const void *bytes, size_t length, off_t offset) {        \
        NEXT(ssize_t, #name, int, const void *, size_t, off_t)                    \
        ssize_t written = next(fd, bytes, length, offset);                        \
        struct iovec part = {(void *)bytes, length};                              \
        record_write(fd, offset, &part, 1, written);                              \
        return written;                                                           \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name)                                                             \
    ssize_t name(int fd, const struct iovec *parts, int count, off_t offset) {    \
        NEXT(ssize_t, #name, int, const struct iovec *, int, off_t)               \
        ssize_t written = next(fd, parts, count, offset);                         \
        record_write(fd, offset, parts, count, written);                          \
        return written;                                                           \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

ssize_t write(int fd, const void *bytes, size_t length) {
    NEXT(ssize_t, "write", int, const void *, size_t)
    ssize_t written = next(fd, bytes, length);
    struct iovec part = {(void *)bytes, length};
    if (is_recorded(fd)) record_write(fd, lseek(fd, 0, SEEK_CUR) - written, &part, 1, written);
    return written;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int)
    ssize_t written = next(fd, parts, count);
    if (is_recorded(fd)) record_write(fd, lseek(fd, 0, SEEK_CUR) - written, parts, count, written);
    return written;
}

#define SYNCS(name)                                                               \
    int name(int fd) {                                                            \
        NEXT(int, #name, int)                                                     \
        int result = next(fd);                                                    \
        record_call(SYNC, fd, result);                                            \
        return result;                                                            \
    }
SYNCS(fsync)
SYNCS(fdatasync)

#define TRUNCATES(name)                                                           \
    int name(int fd, off_t length) {                                              \
        NEXT(int, #name, int, off_t)                                              \
        int result = next(fd, length);                                            \
        record_call(OTHER, fd, result);                                           \
        return result;                                                            \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

/* Of any file: there is none to name. */
int msync(void *begin, size_t length, int flags) {
    NEXT(int, "msync", void *, size_t, int)
    record(OTHER, 0, NULL, 0, 0);
    return next(begin, length, flags);
}
