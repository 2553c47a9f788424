// Records the file calls that a process makes below one directory, in the order in which the kernel carried them out.
// Preloaded; CAIRN_TRACE_DIRECTORY is the directory, CAIRN_TRACE_FILE the file that receives the records. Calls that
// failed changed nothing and are left out. Opening a path below MARK_PREFIX records the rest of the path as a mark: the
// process says that way, between two calls, what it has just learned.
//
// One mutex is held over each call and its record, so that the order of the records is the order of the calls.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MARK_PREFIX "/cairn-mark/"
#define DESCRIPTORS_MAX 65536

// The numbers are those of trace.ts.
enum Kind { kOpen = 1, kWrite, kTruncate, kSync, kRename, kUnlink, kMakeDirectory, kMark };

struct Header {
  uint32_t kind;
  int32_t descriptor;
  uint64_t offset;  // of kWrite; the size of kTruncate; the flags of kOpen
  uint32_t path_bytes;
  uint32_t data_bytes;  // written bytes, or the new name of kRename
};

static char directory[4096];
static size_t directory_bytes;
static int trace = -1;
static char is_ours[DESCRIPTORS_MAX];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static int (*next_open)(const char*, int, ...);
static int (*next_close)(int);
static ssize_t (*next_pwrite)(int, const void*, size_t, off64_t);
static ssize_t (*next_pwritev)(int, const struct iovec*, int, off64_t);
static int (*next_ftruncate)(int, off64_t);
static int (*next_fsync)(int);
static int (*next_fdatasync)(int);
static int (*next_rename)(const char*, const char*);
static int (*next_unlink)(const char*);
static int (*next_mkdir)(const char*, mode_t);

__attribute__((constructor)) static void Begin(void) {
  next_open = dlsym(RTLD_NEXT, "open64");
  next_close = dlsym(RTLD_NEXT, "close");
  next_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  next_pwritev = dlsym(RTLD_NEXT, "pwritev64");
  next_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
  next_fsync = dlsym(RTLD_NEXT, "fsync");
  next_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  next_rename = dlsym(RTLD_NEXT, "rename");
  next_unlink = dlsym(RTLD_NEXT, "unlink");
  next_mkdir = dlsym(RTLD_NEXT, "mkdir");
  const char* where = getenv("CAIRN_TRACE_DIRECTORY");
  const char* file = getenv("CAIRN_TRACE_FILE");
  if (where == NULL || file == NULL || strlen(where) >= sizeof directory) return;
  strcpy(directory, where);
  directory_bytes = strlen(directory);
  trace = next_open(file, O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
}

static int IsBelow(const char* path) {
  return trace >= 0 && strncmp(path, directory, directory_bytes) == 0 &&
         (path[directory_bytes] == '/' || path[directory_bytes] == 0);
}

static int IsOurs(int descriptor) {
  return descriptor >= 0 && descriptor < DESCRIPTORS_MAX && is_ours[descriptor];
}

static void WriteAll(const void* bytes, size_t count) {
  const char* at = bytes;
  while (count > 0) {
    ssize_t done = write(trace, at, count);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) abort();  // A trace with a hole would prove anything.
    at += done;
    count -= (size_t)done;
  }
}

static void Record(enum Kind kind, int descriptor, uint64_t offset, const char* path, const struct iovec* pieces,
                   size_t data_bytes) {
  size_t path_bytes = path == NULL ? 0 : strlen(path);
  struct Header header = {kind, descriptor, offset, (uint32_t)path_bytes, (uint32_t)data_bytes};
  int saved = errno;
  WriteAll(&header, sizeof header);
  WriteAll(path, path_bytes);
  for (; data_bytes > 0; pieces++) {
    size_t count = pieces->iov_len < data_bytes ? pieces->iov_len : data_bytes;
    WriteAll(pieces->iov_base, count);
    data_bytes -= count;
  }
  errno = saved;
}

static int Open(const char* path, int flags, mode_t mode) {
  if (trace >= 0 && strncmp(path, MARK_PREFIX, strlen(MARK_PREFIX)) == 0) {
    pthread_mutex_lock(&mutex);
    Record(kMark, -1, 0, path + strlen(MARK_PREFIX), NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = ENOENT;
    return -1;
  }
  if (!IsBelow(path)) return next_open(path, flags, mode);
  pthread_mutex_lock(&mutex);
  int descriptor = next_open(path, flags, mode);
  if (descriptor >= DESCRIPTORS_MAX) abort();
  if (descriptor >= 0) {
    is_ours[descriptor] = 1;
    Record(kOpen, descriptor, (uint64_t)flags, path, NULL, 0);
  }
  pthread_mutex_unlock(&mutex);
  return descriptor;
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return Open(path, flags, mode);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return Open(path, flags, mode);
}

int close(int descriptor) {
  if (!IsOurs(descriptor)) return next_close(descriptor);
  pthread_mutex_lock(&mutex);
  is_ours[descriptor] = 0;
  int result = next_close(descriptor);
  pthread_mutex_unlock(&mutex);
  return result;
}

ssize_t pwritev64(int descriptor, const struct iovec* pieces, int count, off64_t offset) {
  if (!IsOurs(descriptor)) return next_pwritev(descriptor, pieces, count, offset);
  pthread_mutex_lock(&mutex);
  ssize_t done = next_pwritev(descriptor, pieces, count, offset);
  if (done > 0) Record(kWrite, descriptor, (uint64_t)offset, NULL, pieces, (size_t)done);
  pthread_mutex_unlock(&mutex);
  return done;
}

ssize_t pwritev(int descriptor, const struct iovec* pieces, int count, off_t offset) {
  return pwritev64(descriptor, pieces, count, offset);
}

ssize_t pwrite64(int descriptor, const void* bytes, size_t count, off64_t offset) {
  if (!IsOurs(descriptor)) return next_pwrite(descriptor, bytes, count, offset);
  pthread_mutex_lock(&mutex);
  ssize_t done = next_pwrite(descriptor, bytes, count, offset);
  struct iovec piece = {(void*)bytes, count};
  if (done > 0) Record(kWrite, descriptor, (uint64_t)offset, NULL, &piece, (size_t)done);
  pthread_mutex_unlock(&mutex);
  return done;
}

ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  return pwrite64(descriptor, bytes, count, offset);
}

int ftruncate64(int descriptor, off64_t size) {
  if (!IsOurs(descriptor)) return next_ftruncate(descriptor, size);
  pthread_mutex_lock(&mutex);
  int result = next_ftruncate(descriptor, size);
  if (result == 0) Record(kTruncate, descriptor, (uint64_t)size, NULL, NULL, 0);
  pthread_mutex_unlock(&mutex);
  return result;
}

int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

static int Sync(int descriptor, int (*next)(int)) {
  if (!IsOurs(descriptor)) return next(descriptor);
  pthread_mutex_lock(&mutex);
  int result = next(descriptor);
  if (result == 0) Record(kSync, descriptor, 0, NULL, NULL, 0);
  pthread_mutex_unlock(&mutex);
  return result;
}

int fsync(int descriptor) { return Sync(descriptor, next_fsync); }
int fdatasync(int descriptor) { return Sync(descriptor, next_fdatasync); }

int rename(const char* from, const char* to) {
  if (!IsBelow(from)) return next_rename(from, to);
  pthread_mutex_lock(&mutex);
  int result = next_rename(from, to);
  struct iovec piece = {(void*)to, strlen(to)};
  if (result == 0) Record(kRename, -1, 0, from, &piece, piece.iov_len);
  pthread_mutex_unlock(&mutex);
  return result;
}

int unlink(const char* path) {
  if (!IsBelow(path)) return next_unlink(path);
  pthread_mutex_lock(&mutex);
  int result = next_unlink(path);
  if (result == 0) Record(kUnlink, -1, 0, path, NULL, 0);
  pthread_mutex_unlock(&mutex);
  return result;
}

int mkdir(const char* path, mode_t mode) {
  if (!IsBelow(path)) return next_mkdir(path, mode);
  pthread_mutex_lock(&mutex);
  int result = next_mkdir(path, mode);
  if (result == 0) Record(kMakeDirectory, -1, 0, path, NULL, 0);
  pthread_mutex_unlock(&mutex);
  return result;
}
