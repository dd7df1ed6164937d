import { readFile } from 'node:fs/promises';

export type CapabilityName =
  `CAP_${'DAC_READ_SEARCH' | 'FOWNER' | 'KILL' | 'NET_ADMIN' | 'SYS_CHROOT' | 'SYS_PTRACE' | 'SYS_ADMIN' | 'SYS_NICE' | 'SYSLOG'}`;

/** capabilities(7): the bits that the collectors use, and what each is for. */
export const NEEDED_CAPABILITIES: ReadonlyArray<{
  readonly bit: number;
  readonly name: CapabilityName;
  readonly use: string;
}> = [
  {
    bit: 2,
    name: 'CAP_DAC_READ_SEARCH',
    use: 'read files of other users in the writable layer and in /proc/PID/root',
  },
  { bit: 3, name: 'CAP_FOWNER', use: 'leave access times of files of other users alone (O_NOATIME)' },
  { bit: 5, name: 'CAP_KILL', use: 'stop processes of other users that have no cgroup of their own' },
  { bit: 12, name: 'CAP_NET_ADMIN', use: 'read packet filters and the connections that the kernel follows' },
  { bit: 18, name: 'CAP_SYS_CHROOT', use: 'enter mount namespaces: volumes, and the memory that checkpoints go to' },
  { bit: 19, name: 'CAP_SYS_PTRACE', use: 'read /proc/PID/mem, environ, fd and exe of other users' },
  {
    bit: 21,
    name: 'CAP_SYS_ADMIN',
    use: 'read trusted.overlay attributes and /proc/PID/map_files, enter network namespaces, copy mounts of volumes, list eBPF programs, mount the memory that checkpoints go to',
  },
  { bit: 23, name: 'CAP_SYS_NICE', use: 'come before the workload while a target stands still' },
  { bit: 34, name: 'CAP_SYSLOG', use: 'read the log of the kernel where kernel.dmesg_restrict is set' },
];

/** The agent's effective capabilities, as the bit mask of CapEff in /proc/self/status. */
export async function effectiveCapabilities(): Promise<bigint> {
  const status = await readFile('/proc/self/status', 'utf8');
  return BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
}
