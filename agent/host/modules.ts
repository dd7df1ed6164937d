import { columns, intOf, latin1, linesOf, wordsOf } from './decode.ts';
import type { ModuleReading } from './modules-read.ts';
import type { FileReading } from './procfs.ts';

/** One kernel module as the two lists of it say: /proc/modules (proc(5)) and /sys/module. */
export interface KernelModule {
  readonly name: string;
  /** In which of the lists it is. A built-in part of the kernel is in /sys/module only, without a state. */
  readonly in: readonly ('proc' | 'sys')[];
  /**
   * Loaded, and in one list only: what rootkits that take themselves off one of them look like. It also happens when a module
   * came or went between the two readings.
   */
  readonly listedOnce?: true;
  readonly builtIn?: true;
  readonly sizeBytes?: number;
  readonly references?: number;
  readonly usedBy?: string[];
  /** `Live`, `Loading`, `Unloading`. */
  readonly state?: string;
  /** Zeros where kernel.kptr_restrict hides it. */
  readonly address?: string;
  /** What it taints the kernel with, in words: `out-of-tree`, `unsigned`, … */
  readonly taints?: string[];
  readonly sourceVersion?: string;
  readonly version?: string;
  readonly holders?: readonly string[];
  readonly parameters?: Readonly<Record<string, string>>;
  /** Parameters that cannot be read, with the errno. */
  readonly unreadable?: Readonly<Record<string, string>>;
}

/**
 * Documentation/admin-guide/tainted-kernels.rst: bit, letter, words. The bits are of /proc/sys/kernel/tainted, the letters of a
 * module's own flags.
 */
export const TAINTS: readonly (readonly [string, string])[] = [
  ['P', 'proprietary'],
  ['F', 'module-force-loaded'],
  ['S', 'out-of-specification'],
  ['R', 'module-force-unloaded'],
  ['M', 'machine-check'],
  ['B', 'bad-page'],
  ['U', 'requested-by-user'],
  ['D', 'died'],
  ['A', 'acpi-table-overridden'],
  ['W', 'warned'],
  ['C', 'staging'],
  ['I', 'firmware-workaround'],
  ['O', 'out-of-tree'],
  ['E', 'unsigned'],
  ['L', 'soft-lockup'],
  ['K', 'live-patched'],
  ['X', 'auxiliary'],
  ['T', 'randomised-layout'],
  ['N', 'in-kernel-test'],
  ['J', 'fwctl'],
];

/** Of /proc/sys/kernel/tainted. */
export function taintNames(bits: number): string[] {
  // Beyond 31 bits the operators of numbers do not reach; there are 20.
  return TAINTS.filter((_, bit) => Math.floor(bits / 2 ** bit) % 2 === 1).map(([, words]) => words);
}

function taintLetters(letters: string): string[] {
  return [...letters].map((letter) => TAINTS.find(([known]) => known === letter)?.[1] ?? letter);
}

interface Listed {
  readonly name: string;
  readonly fields: Partial<KernelModule>;
}

/** `nf_tables 331776 5 nft_compat,nft_chain_nat, Live 0xffffffffc0a00000 (OE)`. */
export function parseModules(bytes: Uint8Array): Listed[] {
  return linesOf(bytes).flatMap((line): Listed[] => {
    const [name, size, references, users = '-', state, address, flags] = columns(line);
    const [sizeBytes, count] = [intOf(size), intOf(references)];
    if (name === undefined || sizeBytes === undefined) return [];
    const taints = taintLetters(flags?.replace(/[()+-]/g, '') ?? '');
    return [
      {
        name: wordsOf(name),
        fields: {
          sizeBytes,
          ...(count === undefined ? {} : { references: count }),
          usedBy: users.split(',').filter((user) => user !== '' && user !== '-'),
          ...(state === undefined ? {} : { state }),
          ...(address === undefined ? {} : { address }),
          ...(taints.length === 0 ? {} : { taints }),
        },
      },
    ];
  });
}

/** Both lists as one, by name. `proc` is undefined where there is no /proc/modules. */
export function describeModules(proc: Uint8Array | undefined, sys: readonly ModuleReading[]): KernelModule[] {
  const listed = new Map(parseModules(proc ?? new Uint8Array()).map((module) => [module.name, module.fields]));
  const known = new Map(sys.map((module) => [module.name, module]));
  return [...new Set([...listed.keys(), ...known.keys()])].sort().map((name) => {
    const [fromProc, fromSys] = [listed.get(name), known.get(name)];
    const state = textOf(fromSys?.files.initstate);
    const builtIn = fromProc === undefined && state === undefined;
    const once = proc !== undefined && !builtIn && (fromProc === undefined || fromSys === undefined);
    return {
      name,
      in: [...(fromProc ? ['proc' as const] : []), ...(fromSys ? ['sys' as const] : [])],
      ...(once ? { listedOnce: true as const } : {}),
      ...(builtIn ? { builtIn: true as const } : {}),
      ...(fromSys === undefined ? {} : describeSys(fromSys, state)),
      ...fromProc,
    };
  });
}

function describeSys(module: ModuleReading, state: string | undefined): Partial<KernelModule> {
  const { files, holders } = module;
  const [version, sourceVersion, taint] = [files.version, files.srcversion, files.taint].map(textOf);
  const [references, sizeBytes] = [files.refcnt, files.coresize].map((file) => intOf(textOf(file)));
  const parameters: Record<string, string> = {};
  const unreadable: Record<string, string> = {};
  for (const [name, reading] of Object.entries(module.parameters)) {
    if (reading.kind === 'read') parameters[name] = wordsOf(latin1(reading.bytes).replace(/\n$/, ''));
    else unreadable[name] = reading.errno;
  }
  return {
    ...(state === undefined ? {} : { state }),
    ...(version === undefined ? {} : { version }),
    ...(sourceVersion === undefined ? {} : { sourceVersion }),
    ...(references === undefined ? {} : { references }),
    ...(sizeBytes === undefined ? {} : { sizeBytes }),
    ...(taint === undefined || taint === '' ? {} : { taints: taintLetters(taint) }),
    ...(holders.length === 0 ? {} : { holders }),
    ...(Object.keys(parameters).length === 0 ? {} : { parameters }),
    ...(Object.keys(unreadable).length === 0 ? {} : { unreadable }),
  };
}

function textOf(reading: FileReading | undefined): string | undefined {
  return reading?.kind === 'read' ? wordsOf(latin1(reading.bytes).trim()) : undefined;
}
