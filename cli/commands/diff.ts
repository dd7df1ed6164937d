import type { Command } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import type { DiffDocument, DiffLimits } from '../../evidence/diff/document.ts';
import { ExhibitError } from '../../evidence/error.ts';
import { FACT_KINDS, type FactKind, type Facts } from '../../evidence/facts/facts.ts';
import { type BundleOptions, openBundle, readManifest, takesBundle } from '../bundle.ts';
import { answer, examples, GROUPS, optionsOf } from '../command.ts';
import type { DiffSide } from '../diff-words.ts';
import { openNewFile } from '../new-file.ts';
import { escapeText } from '../print.ts';
import { verifyProgress } from '../progress.ts';
import type { Session } from '../session.ts';
import { check, readTrust } from './verify.ts';

type Options = BundleOptions & {
  only?: string;
  html?: string;
  verify?: boolean;
  trust?: readonly string[];
};

/** `exhibit diff BEFORE AFTER`: what came, went and changed between two captures. */
export function registerDiff(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('diff')
      .description('say what is new, gone and changed between two bundles, what is conspicuous first')
      .helpGroup(GROUPS.evidence),
  )
    .argument('<after>', 'the later bundle; the first is the earlier one')
    .option('--only <kinds>', `only these, with commas: ${FACT_KINDS.join(',')}`)
    .option('--html <file>', 'as a page, instead of on stdout; nothing is overwritten')
    .option('--verify', 'check both bundles first, as `exhibit verify` does; without it they are taken as they are')
    .option('--trust <file...>', 'with --verify: public keys to believe (PEM), or a trust root (JSON)')
    .action(async (before: string, after: string) => diff(session, [before, after], optionsOf<Options>(command)));
  examples(command, [
    ['exhibit diff BASELINE INCIDENT', 'what happened since the last snapshot?'],
    [
      'exhibit diff BASELINE INCIDENT --only processes,ports --verify --trust agent.pub.pem',
      'and are they what was sealed?',
    ],
    ["exhibit diff BASELINE INCIDENT --json | jq -r '.kinds.files.new[].key'", 'new files, for a script'],
  ]);
}

/** Something differs: 1 is for what failed, everywhere in this program. */
export const EXIT_DIFFERS = 4;

/** `--json` and the page: what a person or a program can still take. */
const LIMITS: DiffLimits = { items: 100_000, characters: 64 * 1024 * 1024 };

async function diff(session: Session, bundles: readonly [string, string], options: Options): Promise<void> {
  const only = chosenKinds(options.only);
  const before = await readSide(session, bundles[0], options);
  const after = await readSide(session, bundles[1], options);
  const { compare, differs } = await import('../../evidence/diff/compare.ts');
  const { DIFF_VERSION, diffDocument } = await import('../../evidence/diff/document.ts');
  const compared = compare(before.facts, after.facts);
  const document: DiffDocument = diffDocument(compared, LIMITS, only);
  const words = { before: before.side, after: after.side, diff: document };
  session.exitCode = before.isBad || after.isBad ? 1 : differs(compared, only) ? EXIT_DIFFERS : 0;
  const { describeDiff, diffPage } = await import('../diff-words.ts');
  if (options.html !== undefined) {
    const { toHtml } = await import('../document-html.ts');
    await using file = await openNewFile(options.html, 'choose another --html');
    await file.write(Buffer.from(toHtml(diffPage(words, new Date()))));
    await file.commit();
    if (options.json !== true) return await session.stderr.write(`exhibit: ${escapeText(options.html)} is written\n`);
  }
  await answer(session, options, {
    document: { version: DIFF_VERSION, verified: { before: before.side, after: after.side }, ...document },
    words: () => describeDiff(words),
  });
}

interface Side {
  readonly facts: Facts;
  readonly side: DiffSide;
  /** It was verified, and is not what was sealed. */
  readonly isBad: boolean;
}

async function readSide(session: Session, bundle: string, options: Options): Promise<Side> {
  await using reader = await openBundle(bundle, options, session.signal);
  const manifest = await readManifest(reader, session.signal);
  const { verified, isBad } = await verifiedState(session, reader, options);
  const { factsOfBundle } = await import('../diff-bundle.ts');
  const progress = options.json === true ? undefined : await verifyProgress(session.stderr);
  try {
    const facts = await factsOfBundle({ reader, manifest, signal: session.signal, progress });
    return { facts, side: { url: reader.url, verified }, isBad };
  } finally {
    progress?.stop();
  }
}

async function verifiedState(
  session: Session,
  reader: BundleReader,
  options: Options,
): Promise<{ verified: string; isBad: boolean }> {
  if (options.verify !== true) return { verified: 'not verified', isBad: false };
  const report = await check(session, reader, options, await readTrust(options.trust ?? []));
  if (!report.intact) return { verified: 'NOT INTACT', isBad: true };
  const { signer } = report;
  return { verified: `INTACT, sealed by ${signer?.words ?? 'nobody'}`, isBad: false };
}

function chosenKinds(only: string | undefined): readonly FactKind[] {
  if (only === undefined) return FACT_KINDS;
  const names = only.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !FACT_KINDS.some((kind) => kind === name));
  if (unknown === undefined) return FACT_KINDS.filter((kind) => names.includes(kind));
  throw new ExhibitError('usage', `--only knows no ${unknown}: choose from ${FACT_KINDS.join(', ')}.`);
}
