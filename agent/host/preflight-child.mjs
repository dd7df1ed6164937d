/**
 * The part of the preflight that may be made to wait: mappings (the target's memory lock), stat of open files, and sockets of
 * another network namespace. `node preflight-child.mjs PROC_ROOT` reads requests, one line of JSON each, and answers lines of
 * JSON; preflight-ask.ts has both and kills this process when it stands still.
 *
 * Plain JavaScript without modules of ours, because it is started for each preflight: 30 ms, and 60 ms more with types to strip.
 */
import { closeSync, openSync, readSync, statSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';

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

let library;
function libc() {
  const koffi = createRequire(import.meta.url)('koffi');
  library ??= koffi.load('libc.so.6');
  const known = {};
  return (name, signature) => {
    known[name] ??= library.func(`intptr_t ${name}(${signature})`);
    return (...values) => {
      const result = Number(known[name](...values));
      // An int result fills only half of the register.
      if (result === -1 || result === 0xffffffff) throw Object.assign(new Error(name), { code: `E${koffi.errno()}` });
      return result;
    };
  };
}

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const CLONE_NEWNET = 0x40000000;
const [SOL_SOCKET, SO_RCVTIMEO] = [1, 20];
const [NLMSG_ERROR, NLMSG_DONE] = [2, 3];

/** Asks in the network namespace of `pid`; this process stays there, and goes to the next when it is asked again. */
function askNetlink(pid, protocol, request) {
  const call = libc();
  const namespace = openSync(`${procRoot}/${pid}/ns/net`, 'r');
  let fd = -1;
  try {
    call('setns', 'int fd, int type')(namespace, CLONE_NEWNET);
    fd = call('socket', 'int family, int type, int protocol')(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol);
    const timeval = Buffer.alloc(16);
    timeval.writeBigInt64LE(2n);
    call('setsockopt', 'int fd, int level, int name, const void *value, unsigned int size')(
      fd,
      SOL_SOCKET,
      SO_RCVTIMEO,
      timeval,
      timeval.length,
    );
    call('send', 'int fd, const void *bytes, size_t size, int flags')(fd, request, request.length, 0);
    const receive = call('recv', 'int fd, void *bytes, size_t size, int flags');
    const parts = [];
    for (let read = 0; read < DUMP_MAX_BYTES; ) {
      const count = receive(fd, buffer, buffer.length, 0);
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
  const name = libc()('getxattr', 'const char *path, const char *name, void *value, size_t size');
  const count = name(path, 'system.sockprotoname', buffer, 64);
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

/** Each answer at once, so that the other end knows at which item this process stands still. */
function send(text) {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

for (const request of requests()) for (const answer of answers(request)) send(`${JSON.stringify(answer)}\n`);
