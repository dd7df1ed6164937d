/* What this machine's memory gives: copies BYTES from one touched buffer to another with 1 to MAX threads, some rounds each,
 * and prints the best time of all, in milliseconds. Usage: memcpy MIB MAX */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { ROUNDS = 3, STEP = 4 << 20 };

static char *from, *to;
static size_t bytes;
static int threads;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static void *copy(void *arg) {
  size_t share = bytes / threads, start = (size_t)arg * share;
  for (size_t at = 0; at < share; at += STEP) {
    size_t size = share - at < STEP ? share - at : STEP;
    memcpy(to + start + at, from + start + at, size);
  }
  return NULL;
}

int main(int argc, char **argv) {
  bytes = (size_t)atoi(argv[1]) << 20;
  int most = argc > 2 ? atoi(argv[2]) : 1;
  from = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  to = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(from, 7, bytes);
  memset(to, 1, bytes);
  double best = 1e12;
  for (threads = 1; threads <= most; threads++) {
    for (int round = 0; round < ROUNDS; round++) {
      pthread_t ids[64];
      double begin = now();
      for (long i = 0; i < threads; i++) pthread_create(&ids[i], NULL, copy, (void *)i);
      for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
      double took = now() - begin;
      if (took < best) best = took;
    }
  }
  printf("%.3f\n", best);
  return 0;
}
