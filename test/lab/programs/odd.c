/*
 * Processes that are hard to capture: odd KIND. Each reads one line `PLACE CODED` from its standard input, and tells where
 * the needle is, as planted.ts says.
 *   storm        maps, touches, protects and unmaps on four threads, all the time
 *   crowd N      has N mappings, an eighth of them touched
 *   sparse       has one mapping of which every second page is touched, 4096 in all
 *   reserve      has reserved as much of its address space as there is, up to 128 TiB, with one page in the middle of it
 *   secret       has memory that nobody else may read, memfd_secret(2), beside its needle
 *   zombies      has children that have ended
 *   exec         runs itself again and again; the needle is gone with the first time
 *   heavy MIB    holds MIB mebibytes
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, THREADS = 4, CLOUDS = 32, ZOMBIES = 8, SPARSE_PAGES = 4096 };
static const size_t TIB = 1ul << 40;

static char place[64];
static char coded[1024];

static char *map(size_t bytes, int protection, int flags) {
  char *at = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  return at == MAP_FAILED ? NULL : at;
}

static void plant(char *into) {
  size_t length = strlen(coded) / 2;
  for (size_t i = 0; i < length; i++) {
    unsigned byte = 0;
    sscanf(coded + 2 * i, "%2x", &byte);
    into[i] = (char)(byte ^ 0x5a);
  }
  printf("%s %d %p\n", place, (int)getpid(), (void *)into);
}

/* Some hundred mappings that come and go, each for some 40 milliseconds, without taking the whole machine. */
static void *weather(void *argument) {
  unsigned seed = (unsigned)(uintptr_t)argument;
  char *clouds[CLOUDS] = {NULL};
  for (;; usleep(1000)) {
    int i = rand_r(&seed) % CLOUDS;
    size_t bytes = (size_t)(1 + i) * PAGE;
    if (clouds[i] != NULL) munmap(clouds[i], bytes);
    clouds[i] = map(bytes, PROT_READ | PROT_WRITE, 0);
    if (clouds[i] == NULL) continue;
    memset(clouds[i], 'w', bytes);
    mprotect(clouds[i], PAGE, PROT_READ);
  }
  return NULL;
}

static void storm(void) {
  plant(malloc(PAGE));
  for (uintptr_t i = 0; i < THREADS; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, weather, (void *)i);
  }
}

/* Every second page is read-only, so that the kernel cannot merge their mappings. */
static void crowd(size_t count) {
  char *at = map(count * PAGE, PROT_READ | PROT_WRITE, MAP_NORESERVE);
  madvise(at, count * PAGE, MADV_NOHUGEPAGE);
  for (size_t i = 0; i < count; i += 8) at[i * PAGE] = 'm';
  plant(at + (count - 1) * PAGE);
  for (size_t i = 0; i < count; i += 2) {
    if (mprotect(at + i * PAGE, PAGE, PROT_READ) == 0) continue;
    printf("%s none %s after %zu mappings\n", place, strerror(errno), i);
    return;
  }
}

static void sparse(void) {
  char *at = map(2 * SPARSE_PAGES * PAGE, PROT_READ | PROT_WRITE, 0);
  madvise(at, 2 * SPARSE_PAGES * PAGE, MADV_NOHUGEPAGE);
  for (size_t i = 0; i < SPARSE_PAGES; i++) at[2 * i * PAGE] = 'p';
  plant(at + (2 * SPARSE_PAGES - 2) * PAGE);
}

static void reserve(void) {
  size_t bytes = 128 * TIB;
  char *at = NULL;
  while (at == NULL && (bytes -= TIB / 4) > 0) at = map(bytes, PROT_READ | PROT_WRITE, MAP_NORESERVE);
  madvise(at, bytes, MADV_NOHUGEPAGE);
  plant(at + bytes / 2);
}

static void secret(void) {
  plant(malloc(PAGE));
  int fd = (int)syscall(SYS_memfd_secret, 0);
  char *at = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, PAGE) == 0) at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    printf("memfd-secret none %s\n", strerror(errno));
    return;
  }
  memset(at, 's', PAGE);
  printf("memfd-secret %d %p\n", (int)getpid(), (void *)at);
}

static void zombies(void) {
  plant(malloc(PAGE));
  for (int i = 0; i < ZOMBIES; i++)
    if (fork() == 0) _exit(0);
}

static void heavy(size_t mebibytes) {
  plant(malloc(PAGE));
  char *at = map(mebibytes << 20, PROT_READ | PROT_WRITE, 0);
  for (size_t page = 0; page < mebibytes << 8; page++) memset(at + page * PAGE, (int)(page % 255) + 1, PAGE);
}

static void run_again(char **argv) {
  char *again[] = {argv[0], argv[1], "again", NULL};
  usleep(2000);
  execv("/proc/self/exe", again);
}

int main(int argc, char **argv) {
  const char *kind = argc > 1 ? argv[1] : "";
  size_t size = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
  if (strcmp(kind, "exec") == 0 && argc > 2) run_again(argv);
  if (scanf("%63s %1023s", place, coded) != 2) return 2;
  if (strcmp(kind, "storm") == 0) storm();
  if (strcmp(kind, "crowd") == 0) crowd(size);
  if (strcmp(kind, "sparse") == 0) sparse();
  if (strcmp(kind, "reserve") == 0) reserve();
  if (strcmp(kind, "secret") == 0) secret();
  if (strcmp(kind, "zombies") == 0) zombies();
  if (strcmp(kind, "heavy") == 0) heavy(size);
  if (strcmp(kind, "exec") == 0) plant(malloc(PAGE));
  printf("ready\n");
  fflush(stdout);
  if (strcmp(kind, "exec") == 0) run_again(argv);
  for (;;) pause();
}
