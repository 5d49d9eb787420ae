/* A file system that lacks calls or stumbles, for LD_PRELOAD. Below the folder FAULT_UNDER the calls named in FAULT_CALLS
   fail with FAULT_ERRNO; "replace" is a rename over what is there. Of a path that ends in FAULT_NAME the openings for
   reading from FAULT_FROM to FAULT_TO fail so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int refused(const char *call, const char *path) {
    const char *calls = getenv("FAULT_CALLS"), *under = getenv("FAULT_UNDER");
    if (!calls || !under || !path || !strstr(calls, call) || strncmp(path, under, strlen(under))) return 0;
    errno = number("FAULT_ERRNO");
    return 1;
}

static int refused_fd(const char *call, int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return refused(call, path);
}

static int stumbles(const char *path, int flags) {
    static long opened;
    const char *name = getenv("FAULT_NAME");
    size_t length = strlen(path), end = name ? strlen(name) : 0;
    if (!end || (flags & O_ACCMODE) != O_RDONLY || length < end || strcmp(path + length - end, name)) return 0;
    if (access(path, F_OK)) return 0;
    long now = ++opened;
    if (now < number("FAULT_FROM") || now > number("FAULT_TO")) return 0;
    errno = number("FAULT_ERRNO");
    return 1;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return stumbles(path, flags) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define MAP(name, offset_type) \
    void *name(void *at, size_t size, int how, int flags, int fd, offset_type offset) { \
        REAL(void *, name, void *, size_t, int, int, int, offset_type); \
        return fd >= 0 && refused_fd("mmap", fd) ? MAP_FAILED : real(at, size, how, flags, fd, offset); \
    }
MAP(mmap, off_t)
MAP(mmap64, off64_t)

int chmod(const char *path, mode_t mode) {
    REAL(int, chmod, const char *, mode_t);
    return refused("chmod", path) ? -1 : real(path, mode);
}
int fsync(int fd) {
    REAL(int, fsync, int);
    return refused_fd("fsync", fd) ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t size) {
    REAL(int, ftruncate64, int, off64_t);
    return refused_fd("truncate", fd) ? -1 : real(fd, size);
}
int link(const char *from, const char *to) {
    REAL(int, link, const char *, const char *);
    return refused("link", to) ? -1 : real(from, to);
}
int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    return !access(to, F_OK) && refused("replace", to) ? -1 : real(from, to);
}
int utimensat(int folder, const char *path, const struct timespec times[2], int flags) {
    REAL(int, utimensat, int, const char *, const struct timespec *, int);
    return refused("utime", path) ? -1 : real(folder, path, times, flags);
}
