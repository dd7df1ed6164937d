import { latin1 } from './decode.ts';
import { type Host, procPath } from './host.ts';
import type { BpfHolder } from './node-request.ts';
import { LIMIT_BYTES, listNumbers, readBounded, readLink } from './procfs.ts';

/** 3 µs each: what a node of 250 pods may have several times over. */
const DESCRIPTORS_MAX = 300_000;
const HOLDERS_MAX = 50_000;
/** kernel.pid_max of 64-bit machines. */
const PIDS_MAX = 4_194_304;

/** Which processes of the node hold eBPF objects, by their descriptors' names and fdinfo. */
export function findBpfHolders(host: Host): { holders: BpfHolder[]; truncated: boolean } {
  const holders: BpfHolder[] = [];
  const pids = listNumbers(host.procRoot, PIDS_MAX);
  let looked = 0;
  for (const pid of pids.kind === 'read' ? pids.numbers : []) {
    const listed = listNumbers(procPath(host, pid, 'fd'), DESCRIPTORS_MAX);
    if (listed.kind === 'failed') continue;
    for (const fd of listed.numbers) {
      looked += 1;
      if (looked > DESCRIPTORS_MAX || holders.length >= HOLDERS_MAX) return { holders, truncated: true };
      const target = readLink(procPath(host, pid, 'fd', String(fd)));
      if (target.kind === 'failed' || !/^anon_inode:\[?(bpf|btf)/.test(latin1(target.bytes))) continue;
      const object = bpfObjectOf(procPath(host, pid), fd);
      if (object !== undefined) holders.push({ ...object, pid, fd });
    }
  }
  return { holders, truncated: pids.kind === 'failed' };
}

/** fdinfo of a program, map, link or BTF: `prog_id:\t17`. A link has a prog_id as well, so its own id goes first. */
export function bpfObjectOf(processFolder: string, fd: number): { kind: string; id: number } | undefined {
  const reading = readBounded(`${processFolder}/fdinfo/${fd}`, LIMIT_BYTES.small);
  if (reading.kind === 'failed') return undefined;
  const text = latin1(reading.bytes);
  for (const kind of ['link', 'prog', 'map', 'btf']) {
    const id = new RegExp(`^${kind}_id:\\s*(\\d{1,10})$`, 'm').exec(text)?.[1];
    if (id !== undefined) return { kind, id: Number(id) };
  }
  return undefined;
}
