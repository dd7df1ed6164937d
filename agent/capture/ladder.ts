import type { CheckpointPlan, DumpOptions, Obstacle, PlannedRung, Preflight, RungName } from '../../evidence/dump.ts';
import type { CheckpointRung } from '../runtime/runtime.ts';

export interface CheckpointPolicy {
  /** What is allowed, and in which order it is tried among what is expected to work. */
  readonly rungs: readonly RungName[];
  /** Room for CRIU's files in memory. */
  readonly tmpfsBytes: number;
  readonly whenRefused: 'try' | 'skip';
}

export interface LadderInput {
  /** What the runtime offers. */
  readonly offered: readonly Offered[];
  readonly policy: CheckpointPolicy;
  readonly preflight: Preflight;
  /** Why nothing of it can work on this node. */
  readonly obstacle?: string | undefined;
  /** MemAvailable of the node. */
  readonly availableBytes: number;
}

type Offered = Pick<CheckpointRung, 'name' | 'delivers'> & { readonly passes?: readonly (keyof DumpOptions)[] };

/** Half of what is available: the pods of the node have a right to the rest. */
const SHARE_OF_AVAILABLE = 0.5;
/** CRIU's files beside the pages: maps, descriptors, tmpfs contents. A dump that does not fit fails, and the ladder goes on. */
const BESIDE_PAGES_BYTES = 4 * 1024 * 1024;
/** An obstacle of each kind is told, not each of a thousand sockets. */
const TOLD_OF_A_KIND = 3;

const EXPECTATIONS = ['works', 'may-fail', 'fails'] as const;

/** What of the memory that policy sets aside for CRIU's files may be used. Pure. */
export const tmpfsRoom = (askedBytes: number, availableBytes: number): number =>
  Math.min(askedBytes, Math.floor(availableBytes * SHARE_OF_AVAILABLE));

/** Pure: which ways are tried, in which order, with which options, and what is expected of each. */
export function planLadder(input: LadderInput): CheckpointPlan {
  const { offered, policy, preflight, availableBytes } = input;
  const tmpfsBytes = tmpfsRoom(policy.tmpfsBytes, availableBytes);
  const ladder = policy.rungs
    .flatMap((name) => offered.filter((rung) => rung.name === name))
    .map((rung) => plannedRung(rung, input, tmpfsBytes));
  const rank = ({ expected }: PlannedRung) => EXPECTATIONS.indexOf(expected);
  const sorted = ladder.toSorted((a, b) => rank(a) - rank(b));
  return { preflight, tmpfsBytes, hugePages: worthHugePages(preflight, tmpfsBytes), ladder: sorted };
}

/** As x86_64 and arm64 with pages of 4 KiB have them. */
const HUGE_BYTES = 2 * 1024 * 1024;
/** Below it a dump takes a tenth of a second whatever its pages are. */
const LARGE_BYTES = 64 * 1024 * 1024;
/** CRIU's files of a container and of each of its processes. */
const FILES = { ofAll: 24, ofEach: 8 };

/** Every small file may take a huge page, too: there must be room for that. */
function worthHugePages({ dumpBytes, processes }: Preflight, tmpfsBytes: number): boolean {
  const files = FILES.ofAll + FILES.ofEach * processes;
  return dumpBytes >= LARGE_BYTES && dumpBytes + files * HUGE_BYTES <= tmpfsBytes;
}

function plannedRung(rung: Offered, { preflight, policy, obstacle }: LadderInput, tmpfsBytes: number): PlannedRung {
  const passes = rung.passes ?? [];
  const needed = (option: keyof DumpOptions) =>
    passes.includes(option) && preflight.obstacles.some(({ liftedBy }) => liftedBy === option);
  const options: DumpOptions = {
    openTcp: needed('openTcp'),
    fileLocks: needed('fileLocks'),
    externalUnixSockets: needed('externalUnixSockets'),
  };
  const left = preflight.obstacles.filter(({ liftedBy }) => liftedBy === undefined || !options[liftedBy]);
  const futile = [...(obstacle === undefined ? [] : [obstacle]), ...tooLarge(rung, preflight, tmpfsBytes)];
  const sure = futile.length > 0 || left.some(({ certainty }) => certainty === 'certain');
  return {
    rung: rung.name,
    expected: sure ? 'fails' : left.length > 0 ? 'may-fail' : 'works',
    reasons: [...futile, ...reasonsOf(left)],
    askAnyway: policy.whenRefused === 'try' && futile.length === 0 && !left.some(isDear),
    options,
  };
}

/** CRIU would stop the target for ten seconds before it gives up on a process that somebody traces. */
const isDear = ({ kind }: Obstacle): boolean => kind === 'traced';

function tooLarge(rung: Offered, preflight: Preflight, tmpfsBytes: number): string[] {
  const needsBytes = preflight.dumpBytes + BESIDE_PAGES_BYTES;
  if (rung.delivers !== 'images' || needsBytes <= tmpfsBytes) return [];
  return [`about ${mib(needsBytes)} would be written and ${mib(tmpfsBytes)} of memory are set aside`];
}

const mib = (bytes: number): string => `${Math.ceil(bytes / 2 ** 20)} MiB`;

function reasonsOf(obstacles: readonly Obstacle[]): string[] {
  return [...Map.groupBy(obstacles, ({ kind }) => kind).values()].flatMap((ofKind) => {
    const told = ofKind.slice(0, TOLD_OF_A_KIND).map(({ what }) => what);
    const more = ofKind.length - told.length;
    return more === 0 ? told : [...told, `${more} more of the kind ${ofKind[0]?.kind}`];
  });
}
