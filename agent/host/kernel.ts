import { readFileSync, readlinkSync } from 'node:fs';
import { access, open, readdir, readFile, readlink } from 'node:fs/promises';
import os from 'node:os';
import { errnoOf, isErrno } from '../../evidence/error.ts';
import { asHostPath, asPid } from '../runtime/runtime.ts';
import { type Host, procPath, reach } from './host.ts';
import { kernelPageBytes } from './memory.ts';
import { hasSoftDirty, openPageMap } from './pagemap.ts';

/** What the node's kernel can do and forbids, as far as a capture depends on it. */
export interface KernelFacts {
  /** uname(2), `6.12.40-63.114.amzn2023.x86_64`. */
  readonly release: string;
  /** PAGEMAP_SCAN, since Linux 6.7; undefined where the agent's own page map cannot be opened. */
  readonly pageScan: boolean | undefined;
  /** CONFIG_MEM_SOFT_DIRTY. */
  readonly softDirty: boolean;
  /** Whether /proc/PID/mem gives pages that the process itself may not read (PROT_NONE); tried on the agent's own. */
  readonly unreadablePages: 'given' | 'refused' | 'untried';
  /** The boot parameter proc_mem.force_override (since Linux 6.12); undefined where it is not given. */
  readonly forceOverride: string | undefined;
  /** kernel.yama.ptrace_scope; undefined without Yama. */
  readonly ptraceScope: number | undefined;
  /** kernel_lockdown(7): none, integrity, confidentiality; undefined where it cannot be read. */
  readonly lockdown: string | undefined;
  /** The security modules in force, in their order; empty where securityfs is not mounted. */
  readonly securityModules: readonly string[];
  /** Undefined without SELinux. `context`: the agent's own. */
  readonly selinux: { readonly enforcing: boolean; readonly context: string } | undefined;
  /** Of some other processes, how many let /proc/PID/mem be opened, which asks for the same right as reading does. */
  readonly memoryOfOthers: { readonly opened: number; readonly refused: number; readonly errno: string | undefined };
}

export async function readKernelFacts(host: Host): Promise<KernelFacts> {
  const [commandLine, ptraceScope, lockdown, modules] = await Promise.all([
    textOf(`${host.procRoot}/cmdline`),
    textOf(`${host.procRoot}/sys/kernel/yama/ptrace_scope`),
    sysText(host, '/sys/kernel/security/lockdown'),
    sysText(host, '/sys/kernel/security/lsm'),
  ]);
  return {
    release: await releaseOf(host),
    pageScan: hasPageScan(),
    softDirty: hasSoftDirty(kernelPageBytes()),
    unreadablePages: await tryUnreadablePage(),
    forceOverride: /(?:^|\s)proc_mem\.force_override=(\S+)/.exec(commandLine ?? '')?.[1],
    ptraceScope: ptraceScope === undefined || !/^\d$/.test(ptraceScope) ? undefined : Number(ptraceScope),
    lockdown: /\[(\w+)\]/.exec(lockdown ?? '')?.[1],
    securityModules: modules === undefined || modules === '' ? [] : modules.split(','),
    selinux: await readSelinux(host),
    memoryOfOthers: await readMemoryOfOthers(host),
  };
}

/** What CRIU needs of the kernel. */
export interface CheckpointKernel {
  readonly release: string;
  /** CONFIG_CHECKPOINT_RESTORE, by the file /proc/PID/timers that comes with it. */
  readonly checkpointRestore: boolean;
}

export async function readCheckpointKernel(host: Host): Promise<CheckpointKernel> {
  const checkpointRestore = await access('/proc/self/timers').then(
    () => true,
    () => false,
  );
  return { release: await releaseOf(host), checkpointRestore };
}

async function releaseOf(host: Host): Promise<string> {
  return (await textOf(`${host.procRoot}/sys/kernel/osrelease`)) ?? os.release();
}

async function readSelinux(host: Host): Promise<KernelFacts['selinux']> {
  const enforce = await sysText(host, '/sys/fs/selinux/enforce');
  if (enforce === undefined) return undefined;
  const context = (await textOf('/proc/self/attr/current'))?.replaceAll('\0', '') ?? '';
  return { enforcing: enforce === '1', context };
}

async function textOf(file: string): Promise<string | undefined> {
  return readFile(file, 'latin1').then(
    (text) => text.trim(),
    () => undefined,
  );
}

/** securityfs and selinuxfs are mounted on the node, and seldom in the agent's container. */
async function sysText(host: Host, file: string): Promise<string | undefined> {
  return (await textOf(reach(host, asHostPath(file)))) ?? textOf(file);
}

function hasPageScan(): boolean | undefined {
  try {
    // Not process.pid: this /proc may number the agent otherwise than the pid namespace it is in.
    const self = asPid(Number(readlinkSync('/proc/self')));
    using map = openPageMap({ procRoot: '/proc', hostRoot: '' }, self, kernelPageBytes());
    return map.method === 'scan';
  } catch {
    return undefined;
  }
}

/**
 * Reads a byte of a reservation of our own: V8 keeps address space that nobody may touch. A kernel that gives it gives
 * its shared page of zeros, so no memory is used.
 */
async function tryUnreadablePage(): Promise<KernelFacts['unreadablePages']> {
  const start = /^([0-9a-f]+)-[0-9a-f]+ ---p 00000000 00:00 0 *$/m.exec(readFileSync('/proc/self/maps', 'latin1'))?.[1];
  if (start === undefined) return 'untried';
  try {
    await using handle = await open('/proc/self/mem', 'r');
    await handle.read(Buffer.alloc(1), { position: BigInt(`0x${start}`) });
    return 'given';
  } catch (error) {
    return errnoOf(error) === 'EIO' ? 'refused' : 'untried';
  }
}

/** Process 1 may be one that is protected like no other, so some more are tried; the newest are likely to be in containers. */
const TRIED_PROCESSES = 32;

/** Opens and closes; nothing is read. Kernel threads, which have no memory, do not count. */
export async function readMemoryOfOthers(host: Host): Promise<KernelFacts['memoryOfOthers']> {
  const self = await readlink(`${host.procRoot}/self`).catch(() => '');
  const pids = (await readdir(host.procRoot).catch(() => [])).filter((name) => /^\d+$/.test(name) && name !== self);
  let [opened, refused] = [0, 0];
  let errno: string | undefined;
  for (const pid of pids.map(Number).sort((a, b) => b - a)) {
    if (opened + refused >= TRIED_PROCESSES) break;
    if (!/^[1-9]/.test((await textOf(procPath(host, pid, 'statm'))) ?? '')) continue;
    try {
      await using _handle = await open(procPath(host, pid, 'mem'), 'r');
      opened += 1;
    } catch (error) {
      // Ended meanwhile.
      if (isErrno(error, 'ENOENT', 'ESRCH')) continue;
      refused += 1;
      errno = errnoOf(error) ?? 'EIO';
    }
  }
  return { opened, refused, errno };
}
