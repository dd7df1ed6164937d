/*
 * A process with something to find in every kind of memory. Arguments: a token, MiB of touched heap, threads, mappings.
 * For each place it prints `<place> <address>` and then `ready`; there lies "NEEDLE-<place>-<token>", put together at
 * run time so that it is nowhere else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static const char *token;
static const char padding[8192] __attribute__((aligned(4096))) = "a page of read-only data that the process changes";

static void plant(const char *place, char *at) {
  sprintf(at, "%s-%s-%s", "NEEDLE", place, token);
  printf("%s %p\n", place, (void *)at);
}

static char *map(size_t bytes, int prot, int flags, int fd) {
  char *at = mmap(NULL, bytes, prot, flags, fd, 0);
  if (at == MAP_FAILED) { perror("mmap"); exit(1); }
  return at;
}

static void *sleeper(void *arg) {
  char stack[64];
  sprintf(stack, "%s-thread%d-%s", "NEEDLE", (int)(intptr_t)arg, token);
  for (;;) { pause(); if (stack[0] == 'x') break; }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  token = argv[1];
  size_t mib = strtoul(argv[2], NULL, 10);
  int threads = atoi(argv[3]);
  const int anon = MAP_PRIVATE | MAP_ANONYMOUS;

  char *heap = malloc(4096);
  plant("heap", heap);
  char stack[128];
  plant("stack", stack);
  plant("mmap", map(8192, PROT_READ | PROT_WRITE, anon, -1) + 4096 + 17);

  char *bulk = map((mib << 20) + 4096, PROT_READ | PROT_WRITE, anon, -1);
  for (size_t i = 0; i < mib << 20; i += 8) *(uint64_t *)(bulk + i) = i * 0x9e3779b97f4a7c15u;
  plant("bulk", bulk + (mib << 20));

  plant("shmem", map(8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1));
  char *sysv = shmat(shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600), NULL, 0);
  if (sysv != (char *)-1) plant("sysv", sysv);
  int memfd = memfd_create("line\nbreak", 0);
  if (ftruncate(memfd, 16 << 20) != 0) return 1;
  char *shared = map(16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
  plant("memfd", shared + (8 << 20));
  printf("untouched %p\n", shared);

  char *none = map(8192, PROT_READ | PROT_WRITE, anon, -1);
  plant("protnone", none);
  mprotect(none, 8192, PROT_NONE);
  char *dontdump = map(8192, PROT_READ | PROT_WRITE, anon, -1);
  plant("dontdump", dontdump);
  madvise(dontdump, 8192, MADV_DONTDUMP);

  char *reserved = map(1ull << 40, PROT_NONE, anon | MAP_NORESERVE, -1);
  printf("reserved %p\n", reserved);
  char *sparse = map(1ull << 40, PROT_READ | PROT_WRITE, anon | MAP_NORESERVE, -1);
  madvise(sparse, 1ull << 40, MADV_NOHUGEPAGE);
  plant("sparse", sparse + (700ull << 30));

  char *page = (char *)((uintptr_t)padding & ~(uintptr_t)4095);
  mprotect(page, 8192, PROT_READ | PROT_WRITE);
  plant("modified", page + 1024);
  mprotect(page, 8192, PROT_READ);

  char *zeros = map(1 << 20, PROT_READ | PROT_WRITE, anon, -1);
  madvise(zeros, 1 << 20, MADV_NOHUGEPAGE);
  volatile char sum = 0;
  for (size_t i = 0; i < 1 << 20; i += 4096) sum += zeros[i];
  printf("zeros %p\n", zeros);

  char *guarded = map(16 * 4096, PROT_READ | PROT_WRITE, anon, -1);
  memset(guarded, 'g', 16 * 4096);
  plant("afterguard", guarded + 8 * 4096);
  madvise(guarded + 4 * 4096, 4 * 4096, MADV_GUARD_INSTALL);

  char *huge = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, anon | MAP_HUGETLB, -1, 0);
  if (huge != MAP_FAILED) plant("huge", huge + (1 << 20) + 5);

  char *out = map(64 << 10, PROT_READ | PROT_WRITE, anon, -1);
  memset(out, 's', 64 << 10);
  plant("pagedout", out + 4096);
  madvise(out, 64 << 10, MADV_PAGEOUT);

  size_t mappings = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
  if (mappings > 0) {
    char *many = map(mappings * 4096, PROT_READ | PROT_WRITE, anon, -1);
    madvise(many, mappings * 4096, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < mappings; i++) many[i * 4096] = 'm';
    plant("many", many + (mappings - 1) * 4096);
    for (size_t i = 0; i < mappings; i += 2) mprotect(many + i * 4096, 4096, PROT_READ);
  }

  for (int i = 0; i < threads; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, sleeper, (void *)(intptr_t)i);
  }
  printf("ready\n");
  fflush(stdout);
  for (;;) pause();
}
