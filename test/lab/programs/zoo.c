/* A C program with something to find in every kind of memory. See zoo.ts for what it reads and prints. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <unistd.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20, SWAPPED_PAGES = 16 };

static void tell(const char *place, pid_t pid, const void *at) { printf("%s %d %p\n", place, (int)pid, at); }
static void tell_why_not(const char *place) { printf("%s none %s\n", place, strerror(errno)); }

/* Writes the plain bytes to their destination and nowhere else. */
static void decode(char *into, const char *coded) {
  size_t length = strlen(coded) / 2;
  for (size_t i = 0; i < length; i++) {
    unsigned byte = 0;
    sscanf(coded + 2 * i, "%2x", &byte);
    into[i] = (char)(byte ^ 0x5a);
  }
  into[length] = 0;
}

static char *map(size_t bytes, int flags, int fd) {
  char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  return at == MAP_FAILED ? NULL : at;
}

static int sized(int fd, off_t bytes) {
  if (fd >= 0 && ftruncate(fd, bytes) != 0) return -1;
  return fd;
}

static char *fresh(void) { return map(2 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

static char *system_v(void) {
  int id = shmget(IPC_PRIVATE, PAGE, IPC_CREAT | 0600);
  char *at = id < 0 ? NULL : shmat(id, NULL, 0);
  if (id >= 0) shmctl(id, IPC_RMID, NULL);
  return at == (char *)-1 ? NULL : at;
}

static char *posix(void) { return map(PAGE, MAP_SHARED, sized(shm_open("/zoo", O_CREAT | O_RDWR, 0600), PAGE)); }
static char *memfd(void) { return map(PAGE, MAP_SHARED, sized(memfd_create("zoo", 0), PAGE)); }
static char *file(void) { return map(PAGE, MAP_SHARED, sized(open("/tmp/zoo", O_CREAT | O_RDWR, 0600), PAGE)); }
static char *huge(void) { return map(HUGE_PAGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1); }
static char *executable(void) { return map(PAGE, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY)); }
static char *many_pages(void) { return map(SWAPPED_PAGES * PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1); }
static char *allocated(void) { return malloc(PAGE); }

static void hide(char *at) { mprotect(at, 2 * PAGE, PROT_NONE); }
static void page_out(char *at) {
  for (int i = 1; i < SWAPPED_PAGES; i++) memset(at + i * PAGE, 's', PAGE);
  madvise(at, SWAPPED_PAGES * PAGE, MADV_PAGEOUT);
}

static sem_t planted;

static void *on_thread(void *coded) {
  char stack[256];
  decode(stack, coded);
  tell("c-thread-stack", getpid(), stack);
  sem_post(&planted);
  while (stack[0] != 0) pause();
  return NULL;
}

static void start_thread(char *coded) {
  pthread_t thread;
  sem_init(&planted, 0, 0);
  pthread_create(&thread, NULL, on_thread, coded);
  sem_wait(&planted);
}

static void rest(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (;;) pause();
}

/* Only the child ever touches the page: it is not in the parent's page tables. */
static void start_child(char *coded) {
  char *shared = map(PAGE, MAP_SHARED | MAP_ANONYMOUS, -1);
  volatile char *done = map(PAGE, MAP_SHARED | MAP_ANONYMOUS, -1);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    decode(shared, coded);
    *done = 1;
    rest();
  }
  while (*done == 0) usleep(1000);
  tell("c-child-shared", child, shared);
  tell("c-parent-shared", getpid(), shared);
}

/* In a process of its own: after unshare(CLONE_NEWPID) no thread can be made, and every child is in the new namespace. */
static void nest(char *coded, volatile char *done) {
  if (unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
    tell_why_not("c-nested");
    return;
  }
  char *at = fresh();
  pid_t child = fork();
  if (child == 0) {
    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    decode(at, coded);
    *done = 1;
    rest();
  }
  while (*done == 0) usleep(1000);
  tell("c-nested", child, at);
}

/* Process 1 of a pid namespace in the container's. */
static void start_nested(char *coded) {
  volatile char *done = map(PAGE, MAP_SHARED | MAP_ANONYMOUS, -1);
  fflush(stdout);
  if (fork() == 0) {
    nest(coded, done);
    fflush(stdout);
    *done = 2;
    rest();
  }
  while (*done != 2) usleep(1000);
}

static const struct {
  const char *place;
  char *(*make)(void);
  void (*after)(char *);
} PLACES[] = {
    {"c-heap", allocated, NULL},       {"c-mmap", fresh, NULL},      {"c-sysv", system_v, NULL},
    {"c-posix-shm", posix, NULL},      {"c-memfd", memfd, NULL},     {"c-huge", huge, NULL},
    {"c-prot-none", fresh, hide},      {"c-file-shared", file, NULL}, {"c-file-private", executable, NULL},
    {"c-swapped", many_pages, page_out},
};

static void plant(const char *place, char *coded) {
  for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
    if (strcmp(place, PLACES[i].place) != 0) continue;
    char *at = PLACES[i].make();
    if (at == NULL) {
      tell_why_not(place);
      return;
    }
    decode(at + 17, coded);
    if (PLACES[i].after != NULL) PLACES[i].after(at);
    tell(place, getpid(), at + 17);
  }
  if (strcmp(place, "c-thread-stack") == 0) start_thread(coded);
  if (strcmp(place, "c-child-shared") == 0) start_child(coded);
  if (strcmp(place, "c-nested") == 0) start_nested(coded);
}

int main(void) {
  static char input[16384];
  char stack[256] = "";
  size_t length = 0;
  for (ssize_t got; (got = read(0, input + length, sizeof input - 1 - length)) > 0;) length += (size_t)got;
  for (char *rest = input, *place; (place = strsep(&rest, " ")) != NULL && rest != NULL;) {
    char *coded = strsep(&rest, "\n");
    if (strcmp(place, "c-stack") == 0) {
      decode(stack, coded);
      tell(place, getpid(), stack);
    } else {
      plant(place, coded);
    }
  }
  memset(input, 0, sizeof input);
  printf("ready\n");
  fflush(stdout);
  while (stack[0] != 1) pause();
}
