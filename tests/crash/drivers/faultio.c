/* LD_PRELOAD shim that makes chosen file operations fail, and writes down their order.

   FAULT_PREFIX  only files below this path are touched
   FAULT_CTL     a file with one line, read at each call, so that a test switches it at will:
                     OP ERRNO AFTER TIMES MATCH
                 OP     write short small fsync open rename unlink mkdir grow
                 ERRNO  what the failing call says (short: ignored, half of the bytes are written;
                        small: only writes of less than a page fail)
                 AFTER  so many matching calls pass first, counted since the line changed
                 TIMES  so many calls fail then; 0 means all that follow
                 MATCH  only paths that contain this text; * means any
                 An empty or absent file: nothing fails.
   FAULT_TRACE   a file that gets a line "op path number" per call; a failed one has op!.
                 What goes to a socket is traced as "send".

   cc -shared -fPIC -O2 -o faultio.so faultio.c -ldl

   Calls that do not go through libc (io_uring, raw system calls) pass unseen. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PATH_SIZE = 4096 };

static long count;
static char last[512];

/* Helpers use system calls, never the functions below. */
static long slurp(const char *path, char *into, size_t size) {
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0);
  if (fd < 0) return -1;
  long got = syscall(SYS_read, fd, into, size - 1);
  syscall(SYS_close, fd);
  if (got >= 0) into[got] = 0;
  return got;
}

static void trace(const char *op, const char *path, long number) {
  const char *file = getenv("FAULT_TRACE");
  if (!file) return;
  int fd = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (fd < 0) return;
  char line[PATH_SIZE + 64];
  int length = snprintf(line, sizeof line, "%s %s %ld\n", op, path, number);
  if (length > 0) syscall(SYS_write, fd, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
  syscall(SYS_close, fd);
}

static int under(const char *path) {
  const char *prefix = getenv("FAULT_PREFIX");
  return prefix && path && !strncmp(path, prefix, strlen(prefix));
}

/* The errno to fail with, or 0. */
static int fault(const char *op, const char *path) {
  const char *control = getenv("FAULT_CTL");
  char line[512], wanted[32], match[256] = "*";
  int error;
  long after = 0, times = 0;
  if (!control || slurp(control, line, sizeof line) <= 0) return 0;
  if (sscanf(line, "%31s %d %ld %ld %255s", wanted, &error, &after, &times, match) < 2) return 0;
  if (strcmp(line, last)) {
    strcpy(last, line);
    __atomic_store_n(&count, 0, __ATOMIC_SEQ_CST);
  }
  if (strcmp(wanted, op) || (strcmp(match, "*") && !strstr(path, match))) return 0;
  long turn = __atomic_fetch_add(&count, 1, __ATOMIC_SEQ_CST);
  return turn >= after && (times == 0 || turn < after + times) ? error : 0;
}

static const char *fd_path(int fd, char *into) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = syscall(SYS_readlink, link, into, PATH_SIZE - 1);
  if (length < 0) return "";
  into[length] = 0;
  return into;
}

/* A path given with a folder descriptor. */
static const char *at_path(int folder, const char *name, char *into) {
  if (!name) return "";
  if (name[0] == '/') return name;
  char base[PATH_SIZE];
  if (folder == AT_FDCWD) {
    if (syscall(SYS_getcwd, base, sizeof base) < 0) return name;
  } else if (!*fd_path(folder, base)) {
    return name;
  }
  if (snprintf(into, PATH_SIZE, "%.2000s/%.2000s", base, name) < 0) return name;
  return into;
}

/* Checks and traces one call; returns the errno to fail with, or 0. */
static int check(const char *op, const char *path, long number) {
  if (under(path)) {
    int error = fault(op, path);
    char failed[40];
    snprintf(failed, sizeof failed, "%s!", op);
    trace(error ? failed : op, path, number);
    return error;
  }
  if (!strncmp(path, "socket:", 7) && !strcmp(op, "write")) trace("send", path, number);
  return 0;
}

#define REAL(name)                                             \
  static __typeof__(&name) real;                               \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL_IF(op, path, number, result)        \
  do {                                           \
    int error_ = check(op, path, number);        \
    if (error_) {                                \
      errno = error_;                            \
      return result;                             \
    }                                            \
  } while (0)

/* How much of a write of `size` bytes is let through: all, or half. */
static size_t room(const char *path, size_t size) {
  if (size < 2 || !under(path) || !fault("short", path)) return size;
  trace("short!", path, (long)size);
  return size / 2;
}

#define WRITER(name, parameters, arguments)      \
  ssize_t name parameters {                      \
    REAL(name);                                  \
    char buffer[PATH_SIZE];                      \
    const char *path = fd_path(fd, buffer);      \
    if (size < 4096 && under(path) && (errno = fault("small", path))) { \
      trace("small!", path, (long)size);         \
      return -1;                                 \
    }                                            \
    FAIL_IF("write", path, (long)size, -1);      \
    size = room(path, size);                     \
    return real arguments;                       \
  }
WRITER(write, (int fd, const void *from, size_t size), (fd, from, size))
WRITER(pwrite, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
WRITER(pwrite64, (int fd, const void *from, size_t size, off64_t at), (fd, from, size, at))
WRITER(sendfile, (int fd, int from, off_t *at, size_t size), (fd, from, at, size))
WRITER(sendfile64, (int fd, int from, off64_t *at, size_t size), (fd, from, at, size))

static size_t sum(const struct iovec *parts, int number) {
  size_t size = 0;
  for (int i = 0; i < number; i++) size += parts[i].iov_len;
  return size;
}

#define VECTOR_WRITER(name, parameters, arguments)       \
  ssize_t name parameters {                              \
    REAL(name);                                          \
    char buffer[PATH_SIZE];                              \
    const char *path = fd_path(fd, buffer);              \
    FAIL_IF("write", path, (long)sum(parts, number), -1); \
    if (number > 1 && room(path, 2) < 2) number /= 2;    \
    return real arguments;                               \
  }
VECTOR_WRITER(writev, (int fd, const struct iovec *parts, int number), (fd, parts, number))
VECTOR_WRITER(pwritev, (int fd, const struct iovec *parts, int number, off_t at), (fd, parts, number, at))
VECTOR_WRITER(pwritev64, (int fd, const struct iovec *parts, int number, off64_t at), (fd, parts, number, at))
VECTOR_WRITER(pwritev2, (int fd, const struct iovec *parts, int number, off_t at, int flags), (fd, parts, number, at, flags))

ssize_t copy_file_range(int from, off64_t *from_at, int fd, off64_t *at, size_t size, unsigned flags) {
  REAL(copy_file_range);
  char buffer[PATH_SIZE];
  const char *path = fd_path(fd, buffer);
  FAIL_IF("write", path, (long)size, -1);
  return real(from, from_at, fd, at, room(path, size), flags);
}

size_t fwrite(const void *from, size_t size, size_t number, FILE *file) {
  REAL(fwrite);
  char buffer[PATH_SIZE];
  FAIL_IF("write", fd_path(fileno(file), buffer), (long)(size * number), 0);
  return real(from, size, number, file);
}

ssize_t send(int fd, const void *from, size_t size, int flags) {
  REAL(send);
  trace("send", "socket:", (long)size);
  return real(fd, from, size, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  REAL(sendmsg);
  trace("send", "socket:", (long)sum(message->msg_iov, (int)message->msg_iovlen));
  return real(fd, message, flags);
}

#define SYNCER(name)                                     \
  int name(int fd) {                                     \
    REAL(name);                                          \
    char buffer[PATH_SIZE];                              \
    FAIL_IF("fsync", fd_path(fd, buffer), 0, -1);        \
    return real(fd);                                     \
  }
SYNCER(fsync)
SYNCER(fdatasync)
SYNCER(syncfs)

int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags) {
  REAL(sync_file_range);
  char buffer[PATH_SIZE];
  const char *path = fd_path(fd, buffer);
  /* Write-back alone promises nothing; only a call that waits counts as a sync, traced with a 1: no flush. */
  if (flags & SYNC_FILE_RANGE_WAIT_AFTER) FAIL_IF("fsync", path, 1, -1);
  return real(fd, at, size, flags);
}

int msync(void *from, size_t size, int flags) {
  REAL(msync);
  const char *prefix = getenv("FAULT_PREFIX");
  if (prefix) FAIL_IF("fsync", prefix, (long)size, -1);
  return real(from, size, flags);
}

int ftruncate(int fd, off_t size) {
  REAL(ftruncate);
  char buffer[PATH_SIZE];
  FAIL_IF("grow", fd_path(fd, buffer), (long)size, -1);
  return real(fd, size);
}

int ftruncate64(int fd, off64_t size) {
  REAL(ftruncate64);
  char buffer[PATH_SIZE];
  FAIL_IF("grow", fd_path(fd, buffer), (long)size, -1);
  return real(fd, size);
}

int fallocate(int fd, int mode, off_t at, off_t size) {
  REAL(fallocate);
  char buffer[PATH_SIZE];
  FAIL_IF("grow", fd_path(fd, buffer), (long)size, -1);
  return real(fd, mode, at, size);
}

int fallocate64(int fd, int mode, off64_t at, off64_t size) {
  REAL(fallocate64);
  char buffer[PATH_SIZE];
  FAIL_IF("grow", fd_path(fd, buffer), (long)size, -1);
  return real(fd, mode, at, size);
}

/* Opening counts where it may make a file. */
#define MODE_OF(flags)                              \
  mode_t mode = 0;                                  \
  if ((flags) & (O_CREAT | O_TMPFILE)) {            \
    va_list more;                                   \
    va_start(more, flags);                          \
    mode = va_arg(more, mode_t);                    \
    va_end(more);                                   \
  }
#define OPENER(name)                                                               \
  int name(const char *path, int flags, ...) {                                     \
    REAL(name);                                                                    \
    MODE_OF(flags);                                                                \
    char buffer[PATH_SIZE];                                                        \
    if (flags & O_CREAT) FAIL_IF("open", at_path(AT_FDCWD, path, buffer), flags, -1); \
    return real(path, flags, mode);                                                \
  }
OPENER(open)
OPENER(open64)
#define AT_OPENER(name)                                                            \
  int name(int folder, const char *path, int flags, ...) {                         \
    REAL(name);                                                                    \
    MODE_OF(flags);                                                                \
    char buffer[PATH_SIZE];                                                        \
    if (flags & O_CREAT) FAIL_IF("open", at_path(folder, path, buffer), flags, -1); \
    return real(folder, path, flags, mode);                                        \
  }
AT_OPENER(openat)
AT_OPENER(openat64)

FILE *fopen(const char *path, const char *mode) {
  REAL(fopen);
  char buffer[PATH_SIZE];
  if (*mode != 'r') FAIL_IF("open", at_path(AT_FDCWD, path, buffer), 0, 0);
  return real(path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
  REAL(fopen64);
  char buffer[PATH_SIZE];
  if (*mode != 'r') FAIL_IF("open", at_path(AT_FDCWD, path, buffer), 0, 0);
  return real(path, mode);
}

/* A new name for a file, whichever way it gets one. */
int rename(const char *from, const char *to) {
  REAL(rename);
  char buffer[PATH_SIZE];
  FAIL_IF("rename", at_path(AT_FDCWD, to, buffer), 0, -1);
  return real(from, to);
}

int renameat(int from_folder, const char *from, int folder, const char *to) {
  REAL(renameat);
  char buffer[PATH_SIZE];
  FAIL_IF("rename", at_path(folder, to, buffer), 0, -1);
  return real(from_folder, from, folder, to);
}

int renameat2(int from_folder, const char *from, int folder, const char *to, unsigned flags) {
  REAL(renameat2);
  char buffer[PATH_SIZE];
  FAIL_IF("rename", at_path(folder, to, buffer), 0, -1);
  return real(from_folder, from, folder, to, flags);
}

int link(const char *from, const char *to) {
  REAL(link);
  char buffer[PATH_SIZE];
  FAIL_IF("rename", at_path(AT_FDCWD, to, buffer), 0, -1);
  return real(from, to);
}

int linkat(int from_folder, const char *from, int folder, const char *to, int flags) {
  REAL(linkat);
  char buffer[PATH_SIZE];
  FAIL_IF("rename", at_path(folder, to, buffer), 0, -1);
  return real(from_folder, from, folder, to, flags);
}

int unlink(const char *path) {
  REAL(unlink);
  char buffer[PATH_SIZE];
  FAIL_IF("unlink", at_path(AT_FDCWD, path, buffer), 0, -1);
  return real(path);
}

int unlinkat(int folder, const char *path, int flags) {
  REAL(unlinkat);
  char buffer[PATH_SIZE];
  FAIL_IF("unlink", at_path(folder, path, buffer), 0, -1);
  return real(folder, path, flags);
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  char buffer[PATH_SIZE];
  FAIL_IF("mkdir", at_path(AT_FDCWD, path, buffer), 0, -1);
  return real(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
  REAL(mkdirat);
  char buffer[PATH_SIZE];
  FAIL_IF("mkdir", at_path(folder, path, buffer), 0, -1);
  return real(folder, path, mode);
}
