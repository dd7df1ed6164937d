import { tmpdir } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { type Command, Option } from 'commander';
import { ExhibitError } from '../../evidence/error.ts';
import { ARTIFACTS } from '../../evidence/layout.ts';
import { parseMoment } from '../../evidence/timeline/moment.ts';
import type { LineSorter } from '../../evidence/timeline/sorter.ts';
import {
  CAPTURE_ARTIFACT,
  readEntries,
  TIMELINE_KINDS,
  type TimelineBundle,
  type TimelineEntry,
  type TimelineProblem,
} from '../../evidence/timeline/timeline.ts';
import { type BundleOptions, openBundle, readManifest, takesBundle } from '../bundle.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { openDestination } from '../destination.ts';
import { escapeText, formatCount, toJson } from '../print.ts';
import { verifyProgress } from '../progress.ts';
import type { Session } from '../session.ts';
import {
  originOf,
  TIMELINE_FORMATS,
  type TimelineFormat,
  type TimelineFormatName,
  type TimeRange,
} from '../timeline-format.ts';

interface Options extends BundleOptions {
  readonly format: TimelineFormatName;
  readonly output?: string;
  readonly from?: string;
  readonly to?: string;
  readonly artifact?: string;
  readonly kind?: string;
  readonly temp?: string;
}

/** `exhibit timeline BUNDLE`: everything in a bundle that has a time, in its order. */
export function registerTimeline(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('timeline')
      .description('merge everything that has a time into one timeline, sorted, in UTC')
      .helpGroup(GROUPS.evidence),
  )
    .addOption(
      new Option('--format <name>', 'jsonl and csv for Timesketch, body for mactime')
        .choices(TIMELINE_FORMATS)
        .default('jsonl'),
    )
    .option('--output <file|folder>', 'write there instead of to stdout; nothing is overwritten')
    .option('--from <time>', 'only what was then or later: 2026-03-01, 2026-03-01T12:00:00Z')
    .option('--to <time>', 'only what was before')
    .option('--artifact <names>', 'only of these, with commas: rootfs,logs,capture')
    .option('--kind <names>', `only such events, with commas: ${TIMELINE_KINDS.join(',')}`)
    .option('--temp <folder>', 'where large timelines are sorted; the system’s own folder when absent')
    .action(async (bundle: string) => {
      await timeline(session, bundle, optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit timeline BUNDLE --output timeline.jsonl', 'for Timesketch'],
    ['exhibit timeline BUNDLE --format body | mactime -b - -d -y 2026-02-28..2026-03-02', 'with The Sleuth Kit'],
    ['exhibit timeline BUNDLE --from 2026-03-01T12:00:00Z --kind process,log | jq -r .message', 'after the alert'],
  ]);
}

async function timeline(session: Session, bundle: string, options: Options): Promise<void> {
  const range = { fromNs: parseTime(options.from, '--from'), toNs: parseTime(options.to, '--to') };
  const artifacts = chosen(options.artifact, [...ARTIFACTS, CAPTURE_ARTIFACT], '--artifact');
  const kinds = chosen(options.kind, TIMELINE_KINDS, '--kind');
  const isWanted = ({ artifact, kind }: TimelineEntry) => artifacts.has(artifact) && kinds.has(kind);

  await using reader = await openBundle(bundle, options, session.signal);
  const manifest = await readManifest(reader, session.signal);
  await using destination = await openDestination(session, options.output, `timeline.${options.format}`, '--output');
  const problems = createProblems();
  const { openTimelineBundle } = await import('../timeline-bundle.ts');
  const { TIMELINE_SOURCES } = await import('../../evidence/timeline/sources.ts');
  const { createSorter } = await import('../../evidence/timeline/sorter.ts');
  keepYoungHeapSmall();
  const progress = await verifyProgress(session.stderr);
  try {
    const opened = await openTimelineBundle({
      reader,
      manifest,
      artifacts,
      signal: session.signal,
      ...problems,
      progress,
    });
    const format = await openFormat(options.format, opened, range);
    await using sorter = createSorter({ folder: options.temp ?? tmpdir() });
    for await (const batch of readEntries(opened, TIMELINE_SOURCES)) {
      session.signal.throwIfAborted();
      if (destination.hungUp.aborted) return;
      await addAll(sorter, format, batch, isWanted);
    }
    progress?.stop();
    await destination.write(Buffer.from(format.header));
    for await (const chunk of sorter.sorted(format)) {
      session.signal.throwIfAborted();
      if (destination.hungUp.aborted) return;
      await destination.write(chunk);
    }
    await destination.commit();
  } finally {
    progress?.stop();
  }
  await problems.tell(session, options);
}

/**
 * Millions of lines are short-lived, and V8 answers by growing the space for such objects: 130 MiB more were seen, for no
 * less CPU time. The factor is read each time that it would grow, so it can be set after the start.
 */
function keepYoungHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
}

async function addAll(
  sorter: LineSorter,
  format: TimelineFormat,
  batch: Iterable<TimelineEntry>,
  isWanted: (entry: TimelineEntry) => boolean,
): Promise<void> {
  for (const entry of batch) {
    if (!isWanted(entry)) continue;
    for (const { ns, text } of format.lines(entry)) {
      const spilling = sorter.add(ns, text);
      if (spilling !== undefined) await spilling;
    }
  }
}

async function openFormat(
  name: TimelineFormatName,
  { manifest, request }: TimelineBundle,
  range: TimeRange,
): Promise<TimelineFormat> {
  const origin = originOf(manifest, request);
  switch (name) {
    case 'jsonl':
      return (await import('../timeline-jsonl.ts')).jsonlFormat(origin, range);
    case 'csv':
      return (await import('../timeline-csv.ts')).csvFormat(origin, range);
    case 'body':
      return (await import('../timeline-body.ts')).bodyFormat(range);
    default:
      return name satisfies never;
  }
}

/** A day is its beginning; without an offset it is UTC. */
function parseTime(text: string | undefined, option: string): bigint | undefined {
  if (text === undefined) return undefined;
  const parts = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?$/.exec(text);
  const [, day = '', minutes = '00:00', seconds = ':00', zone = 'Z'] = parts ?? [];
  const ns = parts === null ? undefined : parseMoment(`${day}T${minutes}${seconds}${zone}`);
  if (ns !== undefined) return ns;
  throw new ExhibitError('usage', `${option} ${text} is no time: write 2026-03-01 or 2026-03-01T12:00:00Z.`);
}

/** The names of a list with commas; all of them without one. */
function chosen(list: string | undefined, known: readonly string[], option: string): ReadonlySet<string> {
  const names = list === undefined ? known : list.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return new Set(names);
  throw new ExhibitError('usage', `${option} knows no ${unknown}: choose from ${known.join(', ')}.`);
}

/** More than a person reads; all are counted. */
const MAX_PROBLEMS = 100;

interface Problems {
  problem(problem: TimelineProblem): void;
  /** On stderr, after the timeline. Throws when there was one: what is there is right, and it is not all. */
  tell(session: Session, options: Options): Promise<void>;
}

function createProblems(): Problems {
  const kept: TimelineProblem[] = [];
  let count = 0;
  return {
    problem(problem) {
      count += 1;
      if (kept.length < MAX_PROBLEMS) kept.push(problem);
    },
    async tell({ stderr }, { json }) {
      for (const problem of kept) {
        const where = problem.member === undefined ? problem.object : `${problem.object}, ${problem.member}`;
        const words = `exhibit: ${escapeText(`${where}: ${problem.why}`)}\n`;
        await stderr.write(json === true ? `${toJson({ missing: problem })}\n` : words);
      }
      if (count === 0) return;
      throw new ExhibitError(
        'bundle-corrupt',
        `The timeline is not complete, ${formatCount(count, 'thing')} could not be read: run \`exhibit verify\` on this bundle.`,
      );
    },
  };
}
