import type { SinkFigure } from './sink-once.ts';

/** The way that the others are compared with. */
export const OURS = 'exhibit';

/** What the sink must reach (docs/bench.md). */
const LEAST_RATIO = 0.9;
const MOST_MIB = 200;

const MIB = 2 ** 20;

/** One upload. */
export interface Row extends SinkFigure {
  readonly name: string;
  readonly sizeMib: number;
  readonly round: number;
  /** CPU of the server meanwhile. */
  readonly serverCpuMs: number;
  /** Why there is no figure. */
  readonly failed?: string;
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

const NAME_COLUMNS = 40;
const NUMBER_COLUMNS = 13;
const HEADS = [
  '',
  'MiB',
  'wall s',
  'MB/s',
  'CPU s',
  'CPU s/GB',
  'server CPU s',
  'start MiB',
  'peak MiB',
  'exhibit is x',
];

/** Medians over the rounds of each way and size; peaks are the highest. */
export function table(rows: readonly Row[]): string {
  const kinds = Map.groupBy(rows, ({ name, sizeMib }) => `${name} ${sizeMib}`);
  return [HEADS, ...[...kinds.values()].map((own) => cellsOf(own, rows))]
    .map((cells) => cells.map((cell, at) => (at === 0 ? cell.padEnd(NAME_COLUMNS) : cell.padStart(NUMBER_COLUMNS))))
    .map((cells) => cells.join(''))
    .join('\n');
}

/** `own`: the rounds of one way and size. */
function cellsOf(own: readonly Row[], rows: readonly Row[]): string[] {
  const { name = '', sizeMib = Number.NaN } = own[0] ?? {};
  const good = own.filter((row) => row.failed === undefined);
  const failed = own.find((row) => row.failed !== undefined)?.failed;
  const of = (pick: (row: Row) => number) => median(good.map(pick));
  const most = (pick: (row: Row) => number) => Math.max(...good.map(pick));
  const wallMs = of((row) => row.wallMs);
  const cpuMs = of((row) => row.cpuMs);
  const sizeMb = (sizeMib * MIB) / 1e6;
  const ratio = median(good.flatMap((row) => speedRatio(rows, row)));
  if (good.length === 0) return [name, String(sizeMib), ` failed: ${failed}`];
  return [
    name,
    String(sizeMib),
    (wallMs / 1000).toFixed(2),
    (sizeMb / (wallMs / 1000)).toFixed(0),
    (cpuMs / 1000).toFixed(2),
    (cpuMs / sizeMb).toFixed(2),
    (of((row) => row.serverCpuMs) / 1000).toFixed(2),
    most((row) => row.startMib).toFixed(0),
    most((row) => row.peakMib).toFixed(0),
    Number.isNaN(ratio) ? '' : ratio.toFixed(2),
    failed === undefined ? '' : ` ${own.length - good.length} of ${own.length} failed: ${failed}`,
  ];
}

/** How many times as fast exhibit was as this way, in the same round. */
function speedRatio(rows: readonly Row[], { name, sizeMib, round, wallMs }: Row): number[] {
  if (name === OURS) return [];
  const ours = rows.find((row) => row.name === OURS && row.sizeMib === sizeMib && row.round === round);
  return ours === undefined || ours.failed !== undefined ? [] : [wallMs / ours.wallMs];
}

export function verdict(rows: readonly Row[]): string {
  const peer = rows.filter((row) => row.name !== OURS && row.failed === undefined);
  const ratios = Map.groupBy(peer, ({ name }) => name);
  const said = [...ratios].map(([name, own]) => {
    const ratio = median(own.flatMap((row) => speedRatio(rows, row)));
    return `${ratio.toFixed(2)} of ${name}: ${ratio >= LEAST_RATIO ? 'reached' : 'MISSED'}`;
  });
  const peak = Math.max(...rows.filter((row) => row.name === OURS).map((row) => row.peakMib));
  return `${said.join('; ')} (bound ${LEAST_RATIO}); ${peak.toFixed(0)} MiB: ${peak <= MOST_MIB ? 'reached' : 'MISSED'} (bound ${MOST_MIB})`;
}
