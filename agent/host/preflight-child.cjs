/**
 * The part of the preflight that may be made to wait: mappings (the target's memory lock), stat of open files, and sockets of
 * another network namespace. `node preflight-child.cjs PROC_ROOT` reads requests, one line of JSON each, and answers lines of
 * JSON; preflight-ask.ts has both and kills this process when it stands still.
 *
 * Plain JavaScript without modules of ours, because it is started for each preflight: that takes 25 ms so, 30 ms as a module, and
 * 60 ms and more with types to strip.
 */
'use strict';

const { closeSync, openSync, readSync, statSync, writeSync } = require('node:fs');
const { constants } = require('node:os');

const procRoot = process.argv[2] ?? '/proc';
const KIB = 1024;
/** As LIMIT_BYTES.maps and LIMIT_BYTES.network of procfs.ts. */
const MAPS_MAX_BYTES = 32 * KIB * KIB;
const DUMP_MAX_BYTES = 32 * KIB * KIB;
/** Mappings told of one process; the rest are counted. */
const LINES_MAX = 256;
/** Mappings that CRIU may refuse: of the kernel's, of files without a name, of devices. Most processes have none. */
const INTERESTING = /^.*(?:\[uprobes|\(deleted\)$|anon_inode:| \/dev\/).*$/gm;

const buffer = Buffer.allocUnsafe(256 * KIB);

function readMaps(path) {
  const fd = openSync(path, 'r');
  try {
    const lines = [];
    let [rest, read, omitted] = ['', 0, 0];
    for (;;) {
      const count = readSync(fd, buffer, 0, buffer.length, null);
      read += count;
      const text = rest + buffer.latin1Slice(0, count);
      const whole = count === 0 ? text.length : text.lastIndexOf('\n') + 1;
      for (const [line] of text.slice(0, whole).matchAll(INTERESTING)) {
        if (lines.length < LINES_MAX) lines.push(line);
        else omitted += 1;
      }
      rest = text.slice(whole);
      if (count === 0 || read >= MAPS_MAX_BYTES) return { lines, omitted, truncated: count !== 0 };
    }
  } finally {
    closeSync(fd);
  }
}

const SIGNATURES = {
  setns: 'int fd, int type',
  socket: 'int family, int type, int protocol',
  setsockopt: 'int fd, int level, int name, const void *value, unsigned int size',
  send: 'int fd, const void *bytes, size_t size, int flags',
  recv: 'int fd, void *bytes, size_t size, int flags',
  getxattr: 'const char *path, const char *name, void *value, size_t size',
};

/** koffi looks for its library in many places, which takes 6 ms of the 7; where npm puts it, it is found at once. */
function loadKoffi() {
  const { platform, arch } = process;
  try {
    return require(`@koromix/koffi-${platform}-${arch}/${platform}_${arch}/koffi.node`);
  } catch {
    return require('koffi');
  }
}

/** `EPERM` for 1. */
const errnoName = (errno) => Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `E${errno}`;

let bound;

/** The C library's functions, loaded when they are needed. Each throws an error with the number of errno in its code. */
function libc() {
  if (bound !== undefined) return bound;
  const koffi = loadKoffi();
  const library = koffi.load('libc.so.6');
  const bind = ([name, signature]) => {
    const foreign = library.func(`intptr_t ${name}(${signature})`);
    const call = (...values) => {
      const result = Number(foreign(...values));
      // An int result fills only half of the register.
      if (result === -1 || result === 0xffffffff)
        throw Object.assign(new Error(name), { code: errnoName(koffi.errno()) });
      return result;
    };
    return [name, call];
  };
  bound = Object.fromEntries(Object.entries(SIGNATURES).map(bind));
  return bound;
}

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const CLONE_NEWNET = 0x40000000;
const [SOL_SOCKET, SO_RCVTIMEO] = [1, 20];
const [NLMSG_ERROR, NLMSG_DONE] = [2, 3];
/** The kernel answers at once, so this only guards against one that does not. */
const TIMEOUT_SECONDS = 2n;
/** `char name[32]` of struct proto. */
const PROTOCOL_MAX_BYTES = 64;

/** Asks in the network namespace of `pid`; this process stays there, and goes to the next when it is asked again. */
function askNetlink(pid, protocol, request) {
  const { setns, socket, setsockopt, send, recv } = libc();
  const namespace = openSync(`${procRoot}/${pid}/ns/net`, 'r');
  let fd = -1;
  try {
    setns(namespace, CLONE_NEWNET);
    fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
    const timeval = Buffer.alloc(16);
    timeval.writeBigInt64LE(TIMEOUT_SECONDS);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval, timeval.length);
    send(fd, request, request.length, 0);
    const parts = [];
    for (let read = 0; read < DUMP_MAX_BYTES; ) {
      const count = recv(fd, buffer, buffer.length, 0);
      parts.push(Buffer.from(buffer.subarray(0, count)));
      read += count;
      if (count === 0 || isLast(buffer.subarray(0, count))) return { dump: join(parts), truncated: false };
    }
    return { dump: join(parts), truncated: true };
  } finally {
    closeSync(namespace);
    if (fd >= 0) closeSync(fd);
  }
}

const join = (parts) => Buffer.concat(parts).toString('base64');

function isLast(bytes) {
  for (let at = 0; at + 16 <= bytes.length; ) {
    const [length, type] = [bytes.readUInt32LE(at), bytes.readUInt16LE(at + 4)];
    if (type === NLMSG_ERROR || type === NLMSG_DONE || length < 16) return true;
    at += (length + 3) & ~3;
  }
  return false;
}

/** The name that a socket's protocol has in the kernel: the xattr `system.sockprotoname` of sockfs. */
function readProtocol(path) {
  const count = libc().getxattr(path, 'system.sockprotoname', buffer, PROTOCOL_MAX_BYTES);
  return { protocol: buffer.latin1Slice(0, count).replace(/\0.*$/s, '') };
}

function readFile(path) {
  const { mode, dev, ino, nlink, blocks } = statSync(path, { bigint: true });
  const isRegular = (Number(mode) & 0o170000) === 0o100000;
  return { isRegular, device: String(dev), inode: String(ino), links: Number(nlink), bytes: Number(blocks) * 512 };
}

function* answers(request) {
  const { ask, items } = request;
  for (const item of items) {
    try {
      const path = `${procRoot}/${item.pid}/${item.name ?? ''}`;
      if (ask === 'maps') yield readMaps(`${path}maps`);
      else if (ask === 'files') yield readFile(path);
      else if (ask === 'protocols') yield readProtocol(path);
      else yield askNetlink(item.pid, request.protocol, Buffer.from(request.message, 'base64'));
    } catch (error) {
      yield { errno: error.code ?? 'EIO' };
    }
  }
}

/** Standard input is a pipe that blocks. */
function* requests() {
  const input = Buffer.allocUnsafe(64 * KIB);
  for (let text = ''; ; ) {
    const count = readSync(0, input, 0, input.length, null);
    if (count === 0) return;
    const lines = (text + input.latin1Slice(0, count)).split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) yield JSON.parse(line);
  }
}

function write(text) {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

/** Characters that go out together. */
const PIECE = 32 * KIB;

for (const request of requests()) {
  let piece = '';
  for (const answer of answers(request)) {
    piece += `${JSON.stringify(answer)}\n`;
    // A careful request wants to know at which item this process stands still.
    if (!request.careful && piece.length < PIECE) continue;
    write(piece);
    piece = '';
  }
  write(piece);
}
