import { columns, hexOf, intOf, linesOf } from './decode.ts';
import { capabilityNames, seccompName, signalNames } from './decode-flags.ts';
import { rememberingText } from './decode-memo.ts';

export interface Ids {
  readonly real: number;
  readonly effective: number;
  readonly saved: number;
  readonly filesystem: number;
}

/** The five capability sets of capabilities(7), as `cap_*` names. */
export interface CapabilitySets {
  readonly inheritable: string[];
  readonly permitted: string[];
  readonly effective: string[];
  readonly bounding: string[];
  readonly ambient: string[];
}

export interface SignalSets {
  readonly pending: string[];
  readonly sharedPending: string[];
  readonly blocked: string[];
  readonly ignored: string[];
  readonly caught: string[];
}

/** /proc/PID/status, proc_pid_status(5). What a kernel does not print is undefined. */
export interface ProcessStatus {
  readonly state: string | undefined;
  readonly tgid: number | undefined;
  readonly ppid: number | undefined;
  /** 0 when nobody traces it. */
  readonly tracerPid: number | undefined;
  readonly uids: Ids | undefined;
  readonly gids: Ids | undefined;
  readonly groups: number[];
  readonly umask: string | undefined;
  readonly fdSize: number | undefined;
  /** Pids from the pid namespace of the reader inwards; the last is what the process sees itself. */
  readonly nsPid: number[];
  readonly nsTgid: number[];
  readonly threads: number | undefined;
  readonly kernelThread: boolean | undefined;
  readonly capabilities: CapabilitySets;
  readonly noNewPrivileges: boolean | undefined;
  readonly seccomp: string | undefined;
  readonly seccompFilters: number | undefined;
  readonly signals: SignalSets;
  /** The Vm*, Rss* and Hugetlb lines, in bytes. */
  readonly memoryBytes: Readonly<Record<string, number>>;
  readonly cpusAllowed: string | undefined;
  readonly voluntarySwitches: number | undefined;
  readonly involuntarySwitches: number | undefined;
}

/** A status file never has that many lines; beyond it, it is not one. */
const LINES_MAX = 1000;

/** Never throws: bytes that are no status file give a status without facts. */
export function parseStatus(bytes: Uint8Array): ProcessStatus {
  const fields = new Map<string, string>();
  // The name comes first. Kernels before 4.20 print it raw, so a later line of the same key is the true one.
  for (const line of linesOf(bytes).slice(-LINES_MAX)) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const int = (key: string): number | undefined => intOf(fields.get(key));
  const ints = (key: string): number[] =>
    columns(fields.get(key) ?? '')
      .map(intOf)
      .filter((n) => n !== undefined);
  const masks = (keys: readonly string[]): string => keys.map((key) => fields.get(key) ?? '').join(' ');
  const flag = (key: string): boolean | undefined => (int(key) === undefined ? undefined : int(key) === 1);
  return {
    state: fields.get('State')?.slice(0, 1),
    tgid: int('Tgid'),
    ppid: int('PPid'),
    tracerPid: int('TracerPid'),
    uids: idsOf(ints('Uid')),
    gids: idsOf(ints('Gid')),
    groups: ints('Groups'),
    umask: fields.get('Umask'),
    fdSize: int('FDSize'),
    nsPid: ints('NSpid'),
    nsTgid: ints('NStgid'),
    threads: int('Threads'),
    kernelThread: flag('Kthread'),
    capabilities: capabilitySets(masks(['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])),
    noNewPrivileges: flag('NoNewPrivs'),
    seccomp: seccompName(int('Seccomp')),
    seccompFilters: int('Seccomp_filters'),
    signals: signalSets(masks(['SigPnd', 'ShdPnd', 'SigBlk', 'SigIgn', 'SigCgt'])),
    memoryBytes: memoryOf(fields),
    cpusAllowed: fields.get('Cpus_allowed_list'),
    voluntarySwitches: int('voluntary_ctxt_switches'),
    involuntarySwitches: int('nonvoluntary_ctxt_switches'),
  };
}

const capabilitySets = rememberingText((masks): CapabilitySets => {
  const names = masks.split(' ').map((mask) => capabilityNames(hexOf(mask) ?? 0n));
  const [inheritable = [], permitted = [], effective = [], bounding = [], ambient = []] = names;
  return { inheritable, permitted, effective, bounding, ambient };
});

const signalSets = rememberingText((masks): SignalSets => {
  const names = masks.split(' ').map((mask) => signalNames(hexOf(mask) ?? 0n));
  const [pending = [], sharedPending = [], blocked = [], ignored = [], caught = []] = names;
  return { pending, sharedPending, blocked, ignored, caught };
});

function idsOf(ids: number[]): Ids | undefined {
  const [real, effective, saved, filesystem] = ids;
  if (real === undefined || effective === undefined || saved === undefined || filesystem === undefined)
    return undefined;
  return { real, effective, saved, filesystem };
}

/** `VmRSS:  1672 kB` becomes `VmRSS: 1712128`. */
function memoryOf(fields: ReadonlyMap<string, string>): Record<string, number> {
  const sizes: Record<string, number> = {};
  for (const [key, value] of fields) {
    if (!value.endsWith(' kB') || !/^(?:Vm|Rss|Hugetlb)[A-Za-z]{1,12}$/.test(key)) continue;
    const kib = intOf(value.slice(0, -' kB'.length));
    if (kib !== undefined && kib >= 0) sizes[key] = kib * 1024;
  }
  return sizes;
}
