/*
 * Processes that hold what a checkpoint by CRIU stumbles over, and their near misses: obstacles KIND FOLDER. Writes `ready`
 * to FOLDER/said when it holds it, or `none WHY` when the kernel refuses, and waits for ever. FOLDER/outside.stream,
 * .seqpacket, .dgram and .idle (which accepts nobody) are unix sockets of somebody outside, where the kind needs them:
 * `serve` is that somebody, and says nothing. `probe FOLDER PROGRAM OFFSET` puts a uprobe on the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1024 * 1024, PORT = 4711, CROWD = 200 };

static const char *folder;
static const char *kind;

static void say(const char *line) {
  char path[256];
  snprintf(path, sizeof path, "%s/said", folder);
  int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
  if (fd >= 0) dprintf(fd, "%s\n", line);
  close(fd);
}

static void refuse(const char *what) {
  char line[256];
  snprintf(line, sizeof line, "none %s: %s", what, strerror(errno));
  say(line);
  exit(1);
}

/* The value, or the end where the kernel refused. */
static int must(long value, const char *what) {
  if (value < 0) refuse(what);
  return (int)value;
}

static int is(const char *name) { return strcmp(kind, name) == 0; }

static void wait_for_ever(void) {
  for (;;) pause();
}

/* TCP and MPTCP, all over the loopback interface */

static struct sockaddr_in address(int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return at;
}

static int listening(int protocol, int backlog) {
  int fd = must(socket(AF_INET, SOCK_STREAM, protocol), "socket");
  struct sockaddr_in at = address(PORT);
  int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  must(bind(fd, (struct sockaddr *)&at, sizeof at), "bind");
  must(listen(fd, backlog), "listen");
  return fd;
}

static int connected(int protocol) {
  int fd = must(socket(AF_INET, SOCK_STREAM, protocol), "socket");
  struct sockaddr_in at = address(PORT);
  must(connect(fd, (struct sockaddr *)&at, sizeof at), "connect");
  return fd;
}

/* A client that is gone at once leaves its connection in the queue, closed by its side. */
static void backlog(int protocol) {
  listening(protocol, 8);
  if (fork() == 0) {
    connected(protocol);
    _exit(0);
  }
  wait(NULL);
}

static void tcp(void) {
  if (is("tcp-unbound")) must(socket(AF_INET, SOCK_STREAM, 0), "socket");
  if (is("tcp-listen")) listening(0, 8);
  if (is("tcp-backlog")) backlog(0);
  if (is("mptcp-listen")) listening(IPPROTO_MPTCP, 8);
  if (is("mptcp-unbound")) must(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), "socket");
  int protocol = strncmp(kind, "mptcp", 5) == 0 ? IPPROTO_MPTCP : 0;
  int wanted = is("tcp-established") || is("mptcp-established") || is("tcp-close-wait") || is("tcp-time-wait");
  if (!wanted && !is("tcp-reset") && !is("tcp-shutdown") && !is("tcp-fin-wait")) return;
  int listener = listening(protocol, 8);
  int client = connected(protocol);
  int server = must(accept(listener, NULL, NULL), "accept");
  if (is("tcp-close-wait")) close(client);
  if (is("tcp-shutdown")) shutdown(client, SHUT_WR), shutdown(server, SHUT_WR);
  if (is("tcp-fin-wait")) shutdown(client, SHUT_WR);
  if (is("tcp-time-wait")) close(client), close(server);
  if (!is("tcp-reset")) return;
  struct linger now = {.l_onoff = 1, .l_linger = 0};
  setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close(client);
}

static void udp(void) {
  if (!is("udp-unconnected") && !is("udp-connected")) return;
  int fd = must(socket(AF_INET, SOCK_DGRAM, 0), "socket");
  struct sockaddr_in at = address(PORT);
  if (is("udp-connected")) must(connect(fd, (struct sockaddr *)&at, sizeof at), "connect");
  else must(bind(fd, (struct sockaddr *)&at, sizeof at), "bind");
}

/* Families of which most programs know nothing */

static void families(void) {
  if (is("vsock")) must(socket(AF_VSOCK, SOCK_STREAM, 0), "socket");
  if (is("vsock-listen")) {
    int fd = must(socket(AF_VSOCK, SOCK_STREAM, 0), "socket");
    struct sockaddr_vm at = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PORT};
    must(bind(fd, (struct sockaddr *)&at, sizeof at), "bind");
    must(listen(fd, 1), "listen");
  }
  if (is("alg")) must(socket(AF_ALG, SOCK_SEQPACKET, 0), "socket");
  if (is("ping")) must(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), "socket");
  if (is("raw")) must(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "socket");
  if (is("packet")) must(socket(AF_PACKET, SOCK_RAW, htons(3)), "socket");
  if (is("netlink")) must(socket(AF_NETLINK, SOCK_RAW, 0), "socket");
}

/* Unix sockets */

static struct sockaddr_un named(const char *path) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
  return at;
}

static struct sockaddr_un outside(const char *name) {
  char path[100];
  snprintf(path, sizeof path, "%s/outside.%s", folder, name);
  return named(path);
}

static int unix_listening(int type, struct sockaddr_un at) {
  int fd = must(socket(AF_UNIX, type, 0), "socket");
  unlink(at.sun_path);
  must(bind(fd, (struct sockaddr *)&at, sizeof at), "bind");
  if (type != SOCK_DGRAM) must(listen(fd, 8), "listen");
  return fd;
}

/* Somebody outside may begin after us. */
static int unix_connected(int type, struct sockaddr_un at) {
  int fd = must(socket(AF_UNIX, type, 0), "socket");
  for (int attempt = 0; connect(fd, (struct sockaddr *)&at, sizeof at) != 0; attempt++) {
    if (attempt == 500) refuse("connect");
    usleep(10 * 1000);
  }
  return fd;
}

static void pairs(void) {
  int ends[2];
  int type = strstr(kind, "dgram") ? SOCK_DGRAM : strstr(kind, "seqpacket") ? SOCK_SEQPACKET : SOCK_STREAM;
  if (strncmp(kind, "unix-pair", 9) == 0) must(socketpair(AF_UNIX, type, 0, ends), "socketpair");
  if (strncmp(kind, "unix-half-pair", 14) == 0) {
    must(socketpair(AF_UNIX, type, 0, ends), "socketpair");
    close(ends[1]);
  }
  /* The other end is in a message that nobody has taken. */
  if (is("unix-in-message")) {
    int carrier[2];
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, carrier), "socketpair");
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    char control[CMSG_SPACE(sizeof(int))] = {0};
    char byte = 'x';
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &ends[1], sizeof(int));
    must(sendmsg(carrier[0], &message, 0), "sendmsg");
    close(ends[1]);
  }
}

static void unix_sockets(void) {
  struct sockaddr_un own = named("/tmp/own.sock");
  pairs();
  if (is("unix-listen")) unix_listening(SOCK_STREAM, own);
  if (is("unix-dgram-bound")) unix_listening(SOCK_DGRAM, own);
  if (is("unix-accepted")) {
    int listener = unix_listening(SOCK_STREAM, own);
    unix_connected(SOCK_STREAM, own);
    must(accept(listener, NULL, NULL), "accept");
  }
  if (is("unix-backlog")) {
    unix_listening(SOCK_STREAM, own);
    unix_connected(SOCK_STREAM, own);
  }
  if (is("unix-dgram-inside")) {
    unix_listening(SOCK_DGRAM, own);
    unix_connected(SOCK_DGRAM, own);
  }
  if (is("unix-dgram-dead")) {
    int server = unix_listening(SOCK_DGRAM, own);
    unix_connected(SOCK_DGRAM, own);
    close(server);
  }
  if (is("unix-outside-stream")) unix_connected(SOCK_STREAM, outside("stream"));
  if (is("unix-outside-seqpacket")) unix_connected(SOCK_SEQPACKET, outside("seqpacket"));
  if (is("unix-outside-idle")) unix_connected(SOCK_STREAM, outside("idle"));
  if (is("unix-outside-dgram")) unix_connected(SOCK_DGRAM, outside("dgram"));
}

/* Files without a name */

static void fill(int fd, size_t bytes) {
  char page[4 * KIB];
  memset(page, 'g', sizeof page);
  for (size_t at = 0; at < bytes; at += sizeof page) {
    size_t count = bytes - at < sizeof page ? bytes - at : sizeof page;
    if (write(fd, page, count) != (ssize_t)count) refuse("write");
  }
}

static int file_of(const char *path, size_t bytes) {
  int fd = must(open(path, O_RDWR | O_CREAT, 0600), path);
  fill(fd, bytes);
  return fd;
}

/* Runs a copy of itself that is made longer by that much, and that it then deletes. */
static void run_deleted(size_t more) {
  const char *copy = "/tmp/copy";
  char *argv[] = {(char *)copy, (char *)kind, (char *)folder, "deleted", NULL};
  int from = must(open("/proc/self/exe", O_RDONLY), "open"), to = must(open(copy, O_CREAT | O_WRONLY, 0755), "open");
  char buffer[64 * KIB];
  for (ssize_t count; (count = read(from, buffer, sizeof buffer)) > 0;)
    if (write(to, buffer, (size_t)count) != count) refuse("write");
  fill(to, more);
  close(from);
  close(to);
  execv(copy, argv);
  refuse("execv");
}

static void ghosts(void) {
  const char *path = "/tmp/ghost";
  int fd = -1;
  if (is("ghost-small")) fd = file_of(path, 64 * KIB);
  if (is("ghost-limit")) fd = file_of(path, MIB);
  if (is("ghost-over")) fd = file_of(path, MIB + 1);
  if (is("ghost-large") || is("ghost-mapped")) fd = file_of(path, 2 * MIB);
  if (is("ghost-sparse")) must(ftruncate(fd = file_of(path, 4 * KIB), 2 * MIB), "ftruncate");
  if (is("ghost-mapped")) {
    char *at = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) refuse("mmap");
    at[0] = 'm';
    close(fd);
  }
  if (fd >= 0) must(unlink(path), "unlink");
  if (is("ghost-link")) {
    fd = file_of(path, 4 * KIB);
    must(link(path, "/tmp/other-name"), "link");
    must(unlink(path), "unlink");
  }
  if (is("ghost-tmpfile")) {
    fd = must(open("/tmp", O_TMPFILE | O_RDWR, 0600), "open");
    fill(fd, 2 * MIB);
  }
  if (is("ghost-shm")) {
    fd = file_of("/dev/shm/ghost", 2 * MIB);
    must(unlink("/dev/shm/ghost"), "unlink");
  }
  if (is("ghost-folder")) {
    must(mkdir("/tmp/gone", 0700), "mkdir");
    must(chdir("/tmp/gone"), "chdir");
    must(rmdir("/tmp/gone"), "rmdir");
  }
  if (is("memfd")) must(ftruncate(must(memfd_create("big", 0), "memfd_create"), 4 * MIB), "ftruncate");
}

/* Watches */

static void watches(void) {
  if (strncmp(kind, "inotify", 7) == 0) {
    int watcher = must(inotify_init1(0), "inotify_init1");
    char path[256] = "/tmp/watched";
    if (is("inotify-mount") || is("inotify-mount-deleted")) snprintf(path, sizeof path, "%s/watched", folder);
    if (is("inotify-proc")) snprintf(path, sizeof path, "/proc/self/status");
    if (is("inotify-etc")) snprintf(path, sizeof path, "/etc/passwd");
    if (is("inotify-shm")) snprintf(path, sizeof path, "/dev/shm/watched");
    int fd = is("inotify-proc") || is("inotify-etc") || is("inotify-empty") ? -1 : file_of(path, 1);
    if (!is("inotify-empty")) must(inotify_add_watch(watcher, path, IN_MODIFY), "inotify_add_watch");
    if (is("inotify-deleted") || is("inotify-mount-deleted")) must(unlink(path), "unlink");
    else if (fd >= 0) close(fd);
  }
  if (is("fanotify")) {
    int watcher = must(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY), "fanotify_init");
    must(fanotify_mark(watcher, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, AT_FDCWD, folder), "fanotify_mark");
  }
}

/* Locks */

static void locks(void) {
  if (strncmp(kind, "lock-", 5) != 0) return;
  int fd = file_of("/tmp/locked", 1);
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (is("lock-flock")) must(flock(fd, LOCK_EX), "flock");
  if (is("lock-posix")) must(fcntl(fd, F_SETLK, &whole), "fcntl");
  if (is("lock-ofd")) must(fcntl(fd, F_OFD_SETLK, &whole), "fcntl");
  if (is("lock-lease")) must(fcntl(fd, F_SETLEASE, F_WRLCK), "fcntl");
}

/* Rings, processes and the rest */

struct io_uring_room {
  uint8_t bytes[120];
};

static void rings(void) {
  struct io_uring_room room = {{0}};
  if (!is("io-uring") && !is("io-uring-mapped")) return;
  int fd = must(syscall(SYS_io_uring_setup, 8, &room), "io_uring_setup");
  if (is("io-uring")) return;
  if (mmap(NULL, 4 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED) refuse("mmap");
  close(fd);
}

static void descriptors(void) {
  if (is("perf")) {
    struct perf_event_attr counter = {.type = PERF_TYPE_SOFTWARE, .size = sizeof counter};
    must(syscall(SYS_perf_event_open, &counter, 0, -1, -1, 0), "perf_event_open");
  }
  if (is("userfault")) must(syscall(SYS_userfaultfd, 0), "userfaultfd");
  if (is("pidfd")) must(syscall(SYS_pidfd_open, getpid(), 0), "pidfd_open");
  if (is("secret")) {
    int fd = must(syscall(SYS_memfd_secret, 0), "memfd_secret");
    must(ftruncate(fd, 4 * KIB), "ftruncate");
    char *at = mmap(NULL, 4 * KIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) refuse("mmap");
    at[0] = 's';
  }
}

/* Each with descriptors of its own, as a server has them. */
static void crowd(int count) {
  for (int i = 1; i < count; i++) {
    if (fork() != 0) continue;
    int ends[2];
    must(pipe(ends), "pipe");
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
    must(socket(AF_INET, SOCK_STREAM, 0), "socket");
    must(epoll_create1(0), "epoll_create1");
    must(eventfd(0, 0), "eventfd");
    must(open("/etc/passwd", O_RDONLY), "open");
    wait_for_ever();
  }
  usleep(500 * 1000);
}

static void processes(void) {
  if (is("crowd")) crowd(CROWD);
  if (is("zombie") && fork() == 0) _exit(0);
  if (is("zombie")) usleep(100 * 1000);
  if (is("traced")) {
    pid_t child = fork();
    if (child == 0) wait_for_ever();
    must(ptrace(PTRACE_SEIZE, child, NULL, NULL), "ptrace");
  }
  if (strncmp(kind, "nested-", 7) != 0) return;
  const char *names[] = {"pid", "net", "mnt", "user", "uts", "ipc", "cgroup", "time"};
  const int flags[] = {CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWCGROUP, CLONE_NEWTIME};
  if (fork() != 0) {
    usleep(200 * 1000);
    return;
  }
  for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
    if (strcmp(kind + 7, names[i]) == 0) must(unshare(flags[i]), "unshare");
  if (fork() == 0) wait_for_ever();
  wait_for_ever();
}

/* Its first instruction is none that the kernel emulates, so it must be run out of line: in the mapping [uprobes]. */
__attribute__((naked, noinline)) void probed(void) { __asm__ volatile("xor %eax, %eax\n\tret"); }

/* The program is not moved when it is linked statically: its first segment begins at the file's beginning. */
static void uprobes(void) {
  extern const char __executable_start;
  if (!is("uprobes") && !is("uprobes-idle")) return;
  char line[64];
  snprintf(line, sizeof line, "offset %lu", (unsigned long)((const char *)probed - &__executable_start));
  say(line);
  /* Whoever puts the probe there says so by a file. */
  char path[256];
  snprintf(path, sizeof path, "%s/probing", folder);
  while (access(path, F_OK) != 0) usleep(10 * 1000);
  if (is("uprobes")) probed();
}

static void probe(const char *program, const char *offset) {
  unsigned type = 0;
  FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
  if (file == NULL || fscanf(file, "%u", &type) != 1) refuse("uprobe/type");
  struct perf_event_attr event = {.type = type, .size = sizeof event};
  event.config1 = (uint64_t)(uintptr_t)program;
  event.config2 = strtoul(offset, NULL, 10);
  must(syscall(SYS_perf_event_open, &event, -1, 0, -1, 0), "perf_event_open");
  char path[256];
  snprintf(path, sizeof path, "%s/probing", folder);
  close(must(open(path, O_CREAT | O_WRONLY, 0644), "open"));
  wait_for_ever();
}

static void serve(void) {
  int stream = unix_listening(SOCK_STREAM, outside("stream"));
  int packets = unix_listening(SOCK_SEQPACKET, outside("seqpacket"));
  unix_listening(SOCK_DGRAM, outside("dgram"));
  unix_listening(SOCK_STREAM, outside("idle"));
  int other = fork() == 0 ? packets : stream;
  for (;;) accept(other, NULL, NULL);
}

int main(int argc, char **argv) {
  kind = argc > 1 ? argv[1] : "";
  folder = argc > 2 ? argv[2] : "/lab";
  /* As process 1 it would not die of it otherwise. */
  signal(SIGTERM, _exit);
  if (is("serve")) serve();
  if (is("probe") && argc > 4) probe(argv[3], argv[4]);
  if (is("ghost-program") && argc == 3) run_deleted(2 * MIB);
  if (is("ghost-program-small") && argc == 3) run_deleted(0);
  if (strncmp(kind, "ghost-program", 13) == 0) must(unlink("/tmp/copy"), "unlink");
  tcp();
  udp();
  families();
  unix_sockets();
  ghosts();
  watches();
  locks();
  rings();
  descriptors();
  processes();
  uprobes();
  say("ready");
  wait_for_ever();
}
