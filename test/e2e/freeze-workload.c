/* Threads that wait in every way a freeze could disturb, and say so when one was: see freeze-registers.test.ts. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Whichever thread gets it. */
static void on_usr1(int signal) {
  (void)signal;
  if (write(1, "usr1\n", 5) != 5) _exit(1);
}

/* Reports on one line, in one write(2). */
static void say(const char *what, long result) {
  char line[80];
  int length = snprintf(line, sizeof line, "%s %ld\n", what, result);
  if (write(1, line, length) != length) exit(1);
}

static void *sleeper(void *unused) {
  struct timespec two = {2, 0};
  long result = syscall(SYS_nanosleep, &two, NULL);
  say("nanosleep", result == 0 ? 0 : errno);
  return unused;
}

static void *waiter(void *unused) {
  int word = 1;
  for (;;) {
    syscall(SYS_futex, &word, FUTEX_WAIT, 1, NULL, NULL, 0);
    say("futex", errno);
  }
  return unused;
}

static void *poller(void *unused) {
  int epoll = epoll_create1(0);
  struct epoll_event event;
  for (;;) {
    int result = epoll_wait(epoll, &event, 1, -1);
    say("epoll", result < 0 ? errno : result);
  }
  return unused;
}

/* Registers that nobody else has, in a loop of one instruction. */
static void *spinner(void *unused) {
#ifdef __x86_64__
  __asm__ volatile(
      "movabs $0x1122334455667788, %%rbx\n movabs $0x0badc0de0badc0de, %%r15\n"
      "movq %%rbx, %%xmm0\n movq %%r15, %%xmm7\n punpcklqdq %%xmm7, %%xmm0\n 1: jmp 1b"
      ::: "rbx", "r15", "xmm0", "xmm7");
#endif
  return unused;
}

static void *idler(void *unused) {
  for (;;) pause();
  return unused;
}

__attribute__((noinline)) static int deep(int depth) { return depth == 0 ? pause() : deep(depth - 1) + 1; }

int main(int count, char **words) {
  const char *what = count > 1 ? words[1] : "";
  pthread_t thread;
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 * 1024);
  signal(SIGUSR1, on_usr1);
  if (strcmp(what, "waits") == 0) {
    pthread_create(&thread, &small, waiter, NULL);
    pthread_create(&thread, &small, poller, NULL);
    pthread_create(&thread, &small, sleeper, NULL);
  } else if (strcmp(what, "spins") == 0) {
    pthread_create(&thread, &small, spinner, NULL);
    pthread_create(&thread, &small, idler, NULL);
  } else if (strcmp(what, "vforks") == 0) {
    usleep(10000);
    if (vfork() == 0) {
      struct timespec four = {4, 0};
      syscall(SYS_write, 1, "ready 0\n", 8);
      syscall(SYS_nanosleep, &four, NULL);
      _exit(0);
    }
    say("vfork", 0);
  } else {
    for (int i = 1; i < atoi(what); i++) pthread_create(&thread, &small, idler, NULL);
  }
  usleep(50000);
  say("ready", 0);
  if (strcmp(what, "spins") == 0) return deep(3);
  for (;;) pause();
}
