/* A process and its child that keep numbers in lockstep, so that a picture of their memory tells whether it is of one moment:
 * a thread writes n to `first`, then to `last`, MIB apart; the child writes n to its own page and then to a shared one. In one
 * moment the pairs differ by one at most. Also shares a memfd, of which one page was written and given back to the file.
 * Prints `<name> <address>` lines, the child's pid, then `ready`. Usage: lockstep MIB TOKEN [BUSY_MIB] */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct pair { volatile uint64_t *a, *b; volatile char *busy; size_t busy_bytes; };

static void *keep_step(void *arg) {
  struct pair *p = arg;
  for (uint64_t n = 1;; n++) {
    *p->a = n;
    *p->b = n;
    if (p->busy_bytes) p->busy[(n * 4096) % p->busy_bytes] = (char)n;
  }
}

static char *map(size_t bytes, int flags, int fd) {
  char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (at == MAP_FAILED) exit(1);
  return at;
}

int main(int argc, char **argv) {
  size_t bytes = strtoul(argv[1], NULL, 10) << 20;
  size_t busy = argc > 3 ? strtoul(argv[3], NULL, 10) << 20 : 0;
  char *big = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  uint64_t seed = 88172645463325252u;
  for (size_t at = 0; at < bytes; at += 8) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    *(uint64_t *)(big + at) = at % 4096 < 1024 ? seed : at;
  }
  char *shared = map(4 << 20, MAP_SHARED | MAP_ANONYMOUS, -1);
  for (size_t at = 0; at < 4 << 20; at += 4096) shared[at] = 1;
  int fd = memfd_create("lockstep", 0);
  if (ftruncate(fd, 8 << 20) != 0) return 1;
  char *file = map(8 << 20, MAP_SHARED, fd);
  snprintf(file, 64, "NEEDLE-memfd-%s", argv[2]);
  /* Written, and in nobody's page tables any more. */
  snprintf(file + (4 << 20), 64, "NEEDLE-hidden-%s", argv[2]);
  madvise(file + (4 << 20), 4096, MADV_DONTNEED);
  char *own = map(4096, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  snprintf(big + 4096, 64, "NEEDLE-private-%s", argv[2]);
  pid_t child = fork();
  if (child == 0) {
    struct pair p = {(uint64_t *)own, (uint64_t *)shared, NULL, 0};
    keep_step(&p);
  }
  printf("first %p\nlast %p\nown %p\nshared %p\nmemfd %p\nhidden %p\nprivate %p\nchild %d\nready\n", (void *)big,
         (void *)(big + bytes - 4096), (void *)own, (void *)shared, (void *)file, (void *)(file + (4 << 20)),
         (void *)(big + 4096), child);
  fflush(stdout);
  struct pair p = {(uint64_t *)big, (uint64_t *)(big + bytes - 4096), big + (1 << 20), busy};
  pthread_t thread;
  pthread_create(&thread, NULL, keep_step, &p);
  waitpid(child, NULL, 0);
  return 0;
}
