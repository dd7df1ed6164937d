/**
 * A pod that was broken into, so that tests and the demo have something to find. Everything is done with busybox and
 * perl of the image, as an intruder without tools of his own would.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { labRoot } from './cache.mjs';
import { type LabNode, NODE_ADDRESS } from './node.ts';
import type { LabPod } from './pod.ts';

export interface VictimOptions {
  /** Also opens a TCP connection to the outside. CRIU then refuses, for CRI does not pass tcp-established. */
  connection?: boolean;
  /** Also leaves what is meant to be overlooked: a program in memory, and an edit that neither size nor time tells of. */
  covert?: boolean;
}

export interface Victim {
  pod: LabPod;
  /** Name of the only container. */
  container: string;
  /** A string that is in the memory of `secretPid` and in no file, argument or variable of the environment. */
  secret: string;
  /** Pid in the lab node's pid namespace. */
  secretPid: number;
  /** The running program whose file is gone. */
  dropped: { path: string; argv0: string; sha256: string; nsPid: number };
  connection: { address: string; port: number; nsPid: number } | undefined;
  /** Paths in the container, absolute. */
  files: { changed: string; deleted: string; created: string[]; setuid: string; backdated: string };
  /** Modification time that `files.backdated` claims, in seconds since 1970. */
  backdatedMtimeSec: number;
  /** Lines that the container wrote; those of stdout and of stderr reach the log in no certain order. */
  logLines: string[];
}

const CONTAINER = 'web';

const LOG_LINES = ['shop listening on :8080', 'POST /upload 200', 'sh: curl: not found', 'GET /.x/kworker 200'];

const FILES: Victim['files'] = {
  changed: '/app/config.ini',
  deleted: '/app/readme.txt',
  created: ['/tmp/.x/notes.txt', '/tmp/.x/rootsh', '/app/static/cache.html'],
  setuid: '/tmp/.x/rootsh',
  backdated: '/app/static/cache.html',
};

/** 2020-02-02 02:02:02 UTC, years before the file was made. */
const BACKDATED_SEC = 1580608922;

const DROPPED = { path: '/tmp/.x/kworker', argv0: '[kworker/u8:2]' };

/** As large as it was, and dated back to the time that it has in the image: who is nobody is root now. */
const COVERT_EDIT =
  "mtime=$(stat -c %Y /etc/passwd) && sed -i 's/^nobody:x:65534:/nobody:x:00000:/' /etc/passwd && touch -d @$mtime /etc/passwd";
const COVERT_PROGRAM = 'dev/shm/.cache';

const BREAK_IN = [
  'mkdir -p /tmp/.x',
  `echo 'upstream = 203.0.113.7' >> ${FILES.changed}`,
  `rm ${FILES.deleted}`,
  'echo "2 of 3 done" > /tmp/.x/notes.txt',
  `cp /bin/busybox ${FILES.setuid}`,
  `chmod 4755 ${FILES.setuid}`,
  `echo '<!-- -->' > ${FILES.backdated}`,
  `touch -d @${BACKDATED_SEC} ${FILES.backdated}`,
].join(' && ');

async function must(pod: LabPod, argv: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await pod.exec(CONTAINER, argv);
  if (code !== 0) throw new Error(`${argv.join(' ')}: exit ${code}: ${stderr}`);
  return stdout.toString().trim();
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** Starts a program that outlives the exec which starts it; answers its pid in the lab node's pid namespace. */
async function startInside(node: LabNode, pod: LabPod, argv: readonly string[]): Promise<number> {
  const line = `setsid ${argv.map(quoted).join(' ')} < /dev/null > /dev/null 2>&1 & echo $!`;
  const inner = Number(await must(pod, ['sh', '-c', line]));
  return nodePid(node, await pod.pid(CONTAINER), inner);
}

/** Pid in the lab node's pid namespace of what is `inner` in the pid namespace of the container whose process is `pid`. */
export function nodePid(node: LabNode, pid: number, inner: number): number {
  const namespace = readlinkSync(join(node.procRoot, `${pid}/ns/pid`));
  for (const entry of readdirSync(node.procRoot)) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const status = readFileSync(join(node.procRoot, entry, 'status'), 'latin1');
      const nested = /^NSpid:\s+(.*)$/m.exec(status)?.[1]?.split('\t') ?? [];
      if (Number(nested.at(-1)) !== inner) continue;
      if (readlinkSync(join(node.procRoot, entry, 'ns/pid')) === namespace) return Number(entry);
    } catch {
      // Ended while we looked.
    }
  }
  throw new Error(`no process has pid ${inner} in the container`);
}

/** The secret is in the script in reverse order only: the right order exists in memory alone. */
async function startSecretHolder(node: LabNode, pod: LabPod, secret: string): Promise<number> {
  const reversed = [...secret].reverse().join('');
  return startInside(node, pod, ['perl', '-e', `my $s = reverse "${reversed}"; sleep 3600 while length $s`]);
}

/** coreutils' sleep: small enough (1 MiB) that CRIU takes the deleted file along. */
async function startDropped(node: LabNode, pod: LabPod): Promise<Victim['dropped']> {
  const binary = readFileSync(join(labRoot(), 'usr/bin/sleep'));
  const root = join(node.procRoot, String(await pod.pid(CONTAINER)), 'root');
  writeFileSync(join(root, DROPPED.path), binary, { mode: 0o755 });
  const script = `exec { "${DROPPED.path}" } "${DROPPED.argv0}", "infinity"`;
  const nsPid = await startInside(node, pod, ['perl', '-e', script]);
  await until(() => readlinkSync(join(node.procRoot, String(nsPid), 'exe')) === DROPPED.path);
  await must(pod, ['rm', DROPPED.path]);
  return { ...DROPPED, sha256: createHash('sha256').update(binary).digest('hex'), nsPid };
}

async function leaveCovertly(node: LabNode, pod: LabPod): Promise<void> {
  await must(pod, ['sh', '-c', COVERT_EDIT]);
  const root = join(node.procRoot, String(await pod.pid(CONTAINER)), 'root');
  writeFileSync(join(root, COVERT_PROGRAM), readFileSync(join(labRoot(), 'usr/bin/nice')), { mode: 0o755 });
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('the break-in did not happen in 10 s');
    await sleep(10);
  }
}

const LISTEN = `
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => '${NODE_ADDRESS}', Listen => 5, ReuseAddr => 1) or die $@;
if (fork()) { print $s->sockport, "\\n"; exit 0 }
close STDOUT; close STDERR;
my @held; push @held, $s->accept while 1;`;

const connectTo = (port: number) => `
use IO::Socket::INET;
my $s = IO::Socket::INET->new(PeerAddr => '${NODE_ADDRESS}', PeerPort => ${port}) or die $@;
print $s "beacon\\n"; $s->flush; sleep 3600 while 1;`;

/** The listener is in the lab node's own network; the pod sees it as a host outside. */
async function connectOut(node: LabNode, pod: LabPod): Promise<Victim['connection']> {
  const { stdout, stderr } = await node.exec(['perl', '-e', LISTEN]);
  const port = Number(stdout.toString());
  if (!port) throw new Error(`cannot listen in the lab node: ${stderr}`);
  const nsPid = await startInside(node, pod, ['perl', '-e', connectTo(port)]);
  const remote = `0100580A:${port.toString(16).toUpperCase().padStart(4, '0')} 01`;
  await until(() => readFileSync(join(node.procRoot, String(nsPid), 'net/tcp'), 'latin1').includes(remote));
  return { address: NODE_ADDRESS, port, nsPid };
}

/** Starts prod/web-0 and breaks into it. */
export async function compromisedPod(node: LabNode, options: VictimOptions = {}): Promise<Victim> {
  const lines = LOG_LINES.map((line, i) => `echo ${quoted(line)}${i === 2 ? ' >&2' : ''}`).join('; ');
  const command = ['sh', '-c', `${lines}; exec tail -f /dev/null`];
  const labels = { app: 'shop', tier: 'web' };
  const env = { DB_PASSWORD: 'hunter2' };
  const pod = await node.runPod({
    namespace: 'prod',
    name: 'web-0',
    labels,
    containers: [{ name: CONTAINER, command, env }],
  });
  await must(pod, ['sh', '-c', BREAK_IN]);
  if (options.covert) await leaveCovertly(node, pod);
  const secret = `EXHIBIT-SECRET-${randomBytes(12).toString('hex')}`;
  const secretPid = await startSecretHolder(node, pod, secret);
  const dropped = await startDropped(node, pod);
  const connection = options.connection ? await connectOut(node, pod) : undefined;
  return {
    pod,
    container: CONTAINER,
    secret,
    secretPid,
    dropped,
    connection,
    files: FILES,
    backdatedMtimeSec: BACKDATED_SEC,
    logLines: LOG_LINES,
  };
}
