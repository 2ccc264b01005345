/* Preloaded into a process: calls on files below a folder wait while a file exists, as on NFS
 * without its server. HANGING_DISK names the folder, HANGING_DISK_WHILE the file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_for_disk(int fd) {
  const char *folder = getenv("HANGING_DISK"), *flag = getenv("HANGING_DISK_WHILE");
  if (folder == NULL || flag == NULL || access(flag, F_OK) != 0) return;
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) != 0) return;
  struct timespec pause = {0, 20000000};
  while (access(flag, F_OK) == 0) nanosleep(&pause, NULL);
}

#define HANGING(result, name, parameters, arguments)                      \
  result name parameters {                                                \
    static result(*real) parameters;                                      \
    if (real == NULL) real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
    wait_for_disk(fd);                                                    \
    return real arguments;                                                \
  }

HANGING(int, fsync, (int fd), (fd))
HANGING(int, fdatasync, (int fd), (fd))
HANGING(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
HANGING(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
HANGING(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
HANGING(ssize_t, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
HANGING(ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))
