/* Loaded into a node by LD_PRELOAD: makes the clock or a disk of this one process lie, as a file that the test shares
 * with it says, and counts how often it did, which proves that the fault happened. The node itself is unchanged, and
 * nothing needs the rights of an administrator.
 *
 * The file is eight-byte words: [0] milliseconds to add to wall-clock time, [1] how often that was done; then a mode and a
 * count for the log (`/raft/`), the store (`/state/`): [2] [3] and [4] [5].
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE, FAIL_WRITES, FULL, STALL, FAIL_READS };

static volatile int64_t *control;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) control = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, time);
    int64_t ms = control && clock == CLOCK_REALTIME ? control[0] : 0;
    if (result == 0 && ms != 0) {
        int64_t total = (int64_t)time->tv_sec * 1000000000 + time->tv_nsec + ms * 1000000;
        time->tv_sec = total / 1000000000;
        time->tv_nsec = total % 1000000000;
        __sync_fetch_and_add(&control[1], 1);
    }
    return result;
}

/* Which of the two disks a path is on: the word of its mode, or 0. */
static int disk_of(const char *path) {
    if (strstr(path, "/raft/")) return 2;
    if (strstr(path, "/state/")) return 4;
    return 0;
}

/* What a call that writes or reads meets: 0, or the error. */
static int meets(const char *path, int writes) {
    int disk = disk_of(path);
    if (!disk) return 0;
    int64_t mode = control[disk];
    if (mode == NONE || writes == (mode == FAIL_READS)) return 0;
    __sync_fetch_and_add(&control[disk + 1], 1);
    if (mode == FULL) return ENOSPC;
    if (mode != STALL) return EIO;
    while (control[disk] == STALL) usleep(5000);
    return 0;
}

static int meets_file(int file, int writes) {
    if (!control || (control[2] == NONE && control[4] == NONE)) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return meets(path, writes);
}

static int meets_path(const char *path) {
    return control && (control[2] != NONE || control[4] != NONE) ? meets(path, 1) : 0;
}

#define REAL(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name);

#define ON_FILE(result, name, writes, types, arguments, values) \
    result name arguments { \
        static result (*real) types; \
        if (!real) real = dlsym(RTLD_NEXT, #name); \
        int error = meets_file(file, writes); \
        if (error) { errno = error; return -1; } \
        return real values; \
    }

ON_FILE(ssize_t, write, 1, (int, const void *, size_t), (int file, const void *from, size_t size), (file, from, size))
ON_FILE(ssize_t, pwrite, 1, (int, const void *, size_t, off_t), (int file, const void *from, size_t size, off_t at), (file, from, size, at))
ON_FILE(ssize_t, pwrite64, 1, (int, const void *, size_t, off_t), (int file, const void *from, size_t size, off_t at), (file, from, size, at))
ON_FILE(ssize_t, writev, 1, (int, const struct iovec *, int), (int file, const struct iovec *from, int count), (file, from, count))
ON_FILE(ssize_t, pwritev, 1, (int, const struct iovec *, int, off_t), (int file, const struct iovec *from, int count, off_t at), (file, from, count, at))
ON_FILE(ssize_t, pwritev64, 1, (int, const struct iovec *, int, off_t), (int file, const struct iovec *from, int count, off_t at), (file, from, count, at))
ON_FILE(int, fsync, 1, (int), (int file), (file))
ON_FILE(int, fdatasync, 1, (int), (int file), (file))
ON_FILE(int, ftruncate64, 1, (int, off_t), (int file, off_t size), (file, size))
ON_FILE(ssize_t, read, 0, (int, void *, size_t), (int file, void *to, size_t size), (file, to, size))
ON_FILE(ssize_t, pread64, 0, (int, void *, size_t, off_t), (int file, void *to, size_t size, off_t at), (file, to, size, at))

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *)
    int error = meets_path(to);
    if (error) { errno = error; return -1; }
    return real(from, to);
}

/* A file that is opened to be written is a write: what makes files is full first. */
#define ON_OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...) \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
        int error = flags & O_CREAT ? meets_path(path) : 0; \
        if (error) { errno = error; return -1; } \
        return real(path, flags, mode); \
    }
ON_OPEN(open)
ON_OPEN(open64)
