/**
 * Names for the kernel's numbers. Values are those of asm-generic (x86-64 and arm64 agree, but for the four open flags
 * that are given per architecture).
 */

/** capabilities(7), by bit; include/uapi/linux/capability.h up to Linux 6.18. */
const CAPABILITIES = [
  ...['chown', 'dac_override', 'dac_read_search', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap'],
  ...['linux_immutable', 'net_bind_service', 'net_broadcast', 'net_admin', 'net_raw', 'ipc_lock', 'ipc_owner'],
  ...['sys_module', 'sys_rawio', 'sys_chroot', 'sys_ptrace', 'sys_pacct', 'sys_admin', 'sys_boot', 'sys_nice'],
  ...['sys_resource', 'sys_time', 'sys_tty_config', 'mknod', 'lease', 'audit_write', 'audit_control', 'setfcap'],
  ...['mac_override', 'mac_admin', 'syslog', 'wake_alarm', 'block_suspend', 'audit_read', 'perfmon', 'bpf'],
  'checkpoint_restore',
] as const;

/** The numbers of the bits that are set, lowest first, of 64. */
function bitsOf(mask: bigint): number[] {
  const bits: number[] = [];
  const [low, high] = [Number(mask & 0xffffffffn), Number((mask >> 32n) & 0xffffffffn)];
  for (let bit = 0; bit < 32; bit += 1) if ((low >>> bit) & 1) bits.push(bit);
  for (let bit = 0; bit < 32; bit += 1) if ((high >>> bit) & 1) bits.push(bit + 32);
  return bits;
}

/** `cap_*` names in the order of their bits; bits without a name as `cap_63`. */
export function capabilityNames(mask: bigint): string[] {
  return bitsOf(mask).map((bit) => `cap_${CAPABILITIES[bit] ?? bit}`);
}

/** proc(5) /proc/PID/stat, field 3. */
const STATES: Readonly<Record<string, string>> = {
  R: 'running',
  S: 'sleeping',
  D: 'disk-sleep',
  Z: 'zombie',
  T: 'stopped',
  t: 'traced',
  X: 'dead',
  x: 'dead',
  K: 'wakekill',
  W: 'waking',
  P: 'parked',
  I: 'idle',
};

export function stateName(letter: string): string {
  return STATES[letter] ?? letter;
}

/** proc(5) status, Seccomp. */
export function seccompName(mode: number | undefined): string | undefined {
  return mode === undefined ? undefined : (['disabled', 'strict', 'filter'][mode] ?? String(mode));
}

/** sched(7). */
export function schedulerName(policy: number | undefined): string | undefined {
  if (policy === undefined) return undefined;
  return ['other', 'fifo', 'rr', 'batch', 'iso', 'idle', 'deadline', 'ext'][policy] ?? String(policy);
}

const ARM_FLAGS: Readonly<Record<string, number>> = {
  O_DIRECTORY: 0o40000,
  O_NOFOLLOW: 0o100000,
  O_DIRECT: 0o200000,
  O_LARGEFILE: 0o400000,
};

/** open(2) and fcntl.h. O_SYNC and O_TMPFILE contain other flags, so they come first and take their bits with them. */
const OPEN_FLAGS: readonly (readonly [string, number])[] = [
  ['O_SYNC', 0o4010000],
  ['O_DSYNC', 0o10000],
  ['O_TMPFILE', 0o20200000],
  ['O_CREAT', 0o100],
  ['O_EXCL', 0o200],
  ['O_NOCTTY', 0o400],
  ['O_TRUNC', 0o1000],
  ['O_APPEND', 0o2000],
  ['O_NONBLOCK', 0o4000],
  ['O_ASYNC', 0o20000],
  ['O_DIRECT', 0o40000],
  ['O_LARGEFILE', 0o100000],
  ['O_DIRECTORY', 0o200000],
  ['O_NOFOLLOW', 0o400000],
  ['O_NOATIME', 0o1000000],
  ['O_CLOEXEC', 0o2000000],
  ['O_PATH', 0o10000000],
];

/** Decodes the `flags:` of fdinfo (octal there). `machine` as uname(2) gives it. */
export function openFlagNames(flags: number, machine: string): string[] {
  const access = flags & 3;
  const names = [(['O_RDONLY', 'O_WRONLY', 'O_RDWR'] as const)[access] ?? 'O_ACCMODE'];
  let rest = flags & ~3;
  const arm = machine.startsWith('arm') || machine.startsWith('aarch');
  for (const [name, value] of OPEN_FLAGS) {
    let bits = arm ? (ARM_FLAGS[name] ?? value) : value;
    if (arm && name === 'O_TMPFILE') bits = 0o20040000;
    if ((rest & bits) === bits) {
      names.push(name);
      rest &= ~bits;
    }
  }
  if (rest !== 0) names.push(`0o${rest.toString(8)}`);
  return names;
}

/** signal(7) numbers of x86-64 and arm64. */
const SIGNALS = [
  ...[
    'HUP',
    'INT',
    'QUIT',
    'ILL',
    'TRAP',
    'ABRT',
    'BUS',
    'FPE',
    'KILL',
    'USR1',
    'SEGV',
    'USR2',
    'PIPE',
    'ALRM',
    'TERM',
  ],
  ...['STKFLT', 'CHLD', 'CONT', 'STOP', 'TSTP', 'TTIN', 'TTOU', 'URG', 'XCPU', 'XFSZ', 'VTALRM', 'PROF', 'WINCH', 'IO'],
  ...['PWR', 'SYS'],
];

/** Decodes a signal mask of status; bit 0 is signal 1. */
export function signalNames(mask: bigint): string[] {
  return bitsOf(mask).map((bit) => (SIGNALS[bit] ? `SIG${SIGNALS[bit]}` : `SIGRT${bit + 1}`));
}

/**
 * tty_nr of proc_pid_stat(5) as a name below /dev: major number in bits 8 to 15, minor in bits 0 to 7 and 20 to 31.
 * Undefined for a process without one; `136:7`, in numbers, for a driver that has no name here
 * (Documentation/admin-guide/devices.txt).
 */
export function terminalName(number: number): string | undefined {
  if (number === 0) return undefined;
  const major = (number >>> 8) & 0xff;
  const minor = (number & 0xff) | ((number >>> 12) & 0xfff00);
  if (major >= 136 && major <= 143) return `pts/${(major - 136) * 256 + minor}`;
  if (major === 4) return minor < 64 ? `tty${minor}` : `ttyS${minor - 64}`;
  if (major === 5 && minor === 1) return 'console';
  return `${major}:${minor}`;
}
