import { type Command, Option } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import { ExhibitError, explain } from '../../evidence/error.ts';
import type { Finding, FindingKind, Severity } from '../../evidence/file-finding.ts';
import type { Manifest } from '../../evidence/manifest.ts';
import { type BundleOptions, openBundle, readContent, readManifest, takesBundle } from '../bundle.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import { batchLines } from '../memory.ts';
import { formatCount, formatFields, formatTable, toJson } from '../print.ts';
import type { Session } from '../session.ts';

type Options = BundleOptions & { kind?: FindingKind };

/** `exhibit findings BUNDLE`: what to look at first among the files of a capture. */
export function registerFindings(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('findings')
      .description('list what is conspicuous about the captured files, the weightiest first')
      .helpGroup(GROUPS.evidence),
  )
    .addOption(new Option('--kind <kind>', 'only findings of this kind, for example set-id'))
    .action(async (bundle: string) => {
      await findings(session, bundle, optionsOf<Options>(command));
    });
  examples(command, [
    ['exhibit findings BUNDLE', 'what to look at first'],
    ['exhibit findings BUNDLE --kind image-file-deleted', 'what the container no longer shows'],
    ["exhibit findings BUNDLE --json | jq -r 'select(.sha256) | .sha256'", 'digests to look up elsewhere'],
  ]);
}

/** Shown to a person, of each severity; more is for `--json`. */
const MAX_SHOWN = 2_000;

async function findings(session: Session, bundle: string, options: Options): Promise<void> {
  const { FINDING_KINDS } = await import('../../evidence/file-finding.ts');
  if (options.kind !== undefined && !FINDING_KINDS.includes(options.kind)) {
    const kinds = FINDING_KINDS.join(', ');
    throw new ExhibitError('usage', `There are no findings of kind ${options.kind}: choose from ${kinds}.`);
  }
  await using reader = await openBundle(bundle, options, session.signal);
  const manifest = await readManifest(reader, session.signal);
  const damaged: string[] = [];
  const found = chosen(session, reader, manifest, options.kind, damaged);
  if (options.json === true) await listJson(session, found);
  else await show(session, found);
  if (damaged.length === 0) return;
  const words = `There may be more findings than these: ${damaged.join('; ')}. Run \`exhibit verify\` on this bundle.`;
  throw new ExhibitError('bundle-corrupt', words);
}

/** An object that cannot be read, or not to its end, is told in `damaged`, and the others are read all the same. */
async function* chosen(
  { signal }: Session,
  reader: BundleReader,
  manifest: Manifest,
  kind: FindingKind | undefined,
  damaged: string[],
): AsyncGenerator<Finding> {
  const { FINDINGS_SUFFIX } = await import('../../evidence/file-finding.ts');
  const { readFindings } = await import('../../evidence/finding-lines.ts');
  const objects = manifest.objects.filter(({ name }) => name.endsWith(FINDINGS_SUFFIX));
  if (objects.length === 0) {
    const mend = 'it needs the artifact rootfs or volumes, taken by an agent that computes findings';
    throw new ExhibitError('bundle-not-found', `The bundle has no findings: ${mend}.`);
  }
  for (const object of objects) {
    try {
      for await (const finding of readFindings(readContent(reader, object, signal), object.name)) {
        if (kind === undefined || finding.kind === kind) yield finding;
      }
    } catch (error) {
      signal.throwIfAborted();
      const words = explain(error);
      damaged.push(words.includes(object.name) ? words : `${object.name}: ${words}`);
    }
  }
}

/** In the order of the bundle, whatever their number. */
async function listJson({ stdout }: Session, found: AsyncIterable<Finding>): Promise<void> {
  const out = batchLines(stdout);
  for await (const finding of found) if (!(await out.write(`${toJson(finding)}\n`))) return;
  await out.flush();
}

async function show({ stdout }: Session, found: AsyncIterable<Finding>): Promise<void> {
  const { FINDING_REASONS, SEVERITIES } = await import('../../evidence/file-finding.ts');
  const kept: Record<Severity, Finding[]> = { high: [], medium: [], low: [] };
  const counts: Record<Severity, number> = { high: 0, medium: 0, low: 0 };
  for await (const finding of found) {
    counts[finding.severity] += 1;
    if (kept[finding.severity].length < MAX_SHOWN) kept[finding.severity].push(finding);
  }
  const shown = SEVERITIES.flatMap((severity) => kept[severity].sort(byPath));
  const total = SEVERITIES.reduce((sum, severity) => sum + counts[severity], 0);
  const weights = SEVERITIES.map((severity) => `${counts[severity]} ${severity}`).join(', ');
  if (total === 0) return await stdout.write('0 findings\n');
  const rows = shown.map((one) => [one.severity, one.kind, placeOf(one), one.reasons.join(', ')]);
  const said = [...new Set(shown.flatMap(({ reasons }) => reasons))].sort();
  const more = total > shown.length ? `; ${total - shown.length} more with --json` : '';
  const legend = formatFields(said.map((reason) => [reason, FINDING_REASONS[reason]]));
  await stdout.write(
    `${formatTable(['SEVERITY', 'KIND', 'PATH', 'WHY'], rows)}\n${formatCount(total, 'finding')}: ${weights}${more}\n\n${legend}`,
  );
}

/** In the container, and on the node where that is what it is about. */
function placeOf({ path, nodePath }: Finding): string {
  return nodePath === undefined ? `/${path}` : `/${path} (node: /${nodePath})`;
}

function byPath(a: Finding, b: Finding): number {
  return a.path < b.path ? -1 : a.path > b.path ? 1 : 0;
}
