import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import { ExhibitError, explain, isExhibitError } from '../../evidence/error.ts';
import type { Trust } from '../../evidence/trust.ts';
import type { VerifyReport } from '../../evidence/verify.ts';
import type { ChainReport } from '../../evidence/verify-chain.ts';
import { type BundleOptions, openBundle, takesBundle, until } from '../bundle.ts';
import { chainOf, chainsIn, describeChains } from '../chain.ts';
import { answer, examples, GROUPS, optionsOf } from '../command.ts';
import { describeFinding, section } from '../finding-words.ts';
import { formatBytes, formatCount, formatFields } from '../print.ts';
import { verifyProgress } from '../progress.ts';
import type { Session } from '../session.ts';

type Options = BundleOptions & { trust?: readonly string[]; chain?: boolean };

/** `exhibit verify BUNDLE`: complete and unaltered? Exit 1 when it is not. */
export function registerVerify(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('verify')
      .description('check a bundle offline: seal, every digest, every member, nothing missing, nothing added')
      .helpGroup(GROUPS.evidence),
  )
    .option(
      '--trust <file...>',
      'public keys and roots of time-stamping authorities to believe (PEM), or a trust root (JSON)',
    )
    .option('--chain', 'also check the captures beside it: none missing, none sealed again (or name their folder)')
    .action(async (bundle: string) => verify(session, bundle, optionsOf<Options>(command)));
  examples(command, [
    ['exhibit verify ./0198c0de-3c4f-7a10-8000-5f2c0a7e9b11 --trust agent.pub.pem', 'a folder, by a key you know'],
    ['exhibit verify BUNDLE --trust trust.json', 'by a trust root: names, validity, authorities (docs/trust.md)'],
    ['exhibit verify s3://evidence/prod/node-1/0198c0de-3c4f-7a10-8000-5f2c0a7e9b11 --region eu-central-1', 'in S3'],
    ['exhibit verify s3://evidence/c/n/ID --endpoint http://127.0.0.1:9000', 'in a server that speaks S3'],
    ['exhibit verify /evidence/prod/node-1 --chain', 'is a capture of this node missing?'],
    ["exhibit verify BUNDLE --json | jq -r '.findings[] | .object'", 'what is wrong, for a script'],
  ]);
}

async function verify(session: Session, bundle: string, options: Options): Promise<void> {
  const trust = await readTrust(options.trust ?? []);
  const opened = await openOrChains(session, bundle, options, trust);
  if ('chains' in opened) {
    const { chains } = opened;
    if (!chains.whole) session.exitCode = 1;
    return await answer(session, options, { document: { chain: chains }, words: () => describeChains(chains) });
  }
  await using reader = opened.reader;
  const report = await check(session, reader, options, trust);
  const chain = options.chain === true ? await chainOf(reader.url, options, session.signal, trust) : undefined;
  if (!report.intact || chain?.whole === false) {
    session.exitCode = report.intactAsStored && chain?.whole !== false ? EXIT_AS_STORED : 1;
  }
  await answer(session, options, {
    document: chain === undefined ? report : { ...report, chain },
    words: () => `${describeReport(report)}${chain === undefined ? '' : `\n${describeChains(chain)}`}`,
  });
}

/** The bundle; or, with `--chain`, what is said of the captures in the folder that was named instead. */
async function openOrChains(
  session: Session,
  bundle: string,
  options: Options,
  trust: Trust,
): Promise<{ reader: BundleReader } | { chains: ChainReport }> {
  try {
    return { reader: await openBundle(bundle, options, session.signal) };
  } catch (error) {
    if (options.chain !== true || !isExhibitError(error, 'bundle-not-found')) throw error;
    const chains = await chainsIn(bundle, options, session.signal, trust);
    if (chains === undefined) throw error;
    return { chains };
  }
}

/** All of `verify`, with progress on the terminal. */
export async function check(
  session: Session,
  reader: BundleReader,
  options: BundleOptions,
  trust: Trust,
): Promise<VerifyReport> {
  const { verifyBundle } = await import('../../evidence/verify.ts');
  const progress = options.json === true ? undefined : await verifyProgress(session.stderr);
  try {
    // A read that hangs (a network) ends with Ctrl-C.
    const report = await verifyBundle(interruptible(reader, session.signal), {
      trust,
      signal: session.signal,
      ...(progress === undefined ? {} : { onProgress: progress.show }),
    });
    session.signal.throwIfAborted();
    return report;
  } catch (error) {
    session.signal.throwIfAborted();
    throw error;
  } finally {
    progress?.stop();
  }
}

/** The stored bytes are what was sealed, and what they hold was not looked at: neither a success nor a fault. */
export const EXIT_AS_STORED = 3;

function interruptible(reader: BundleReader, signal: AbortSignal): BundleReader {
  const { encryption } = reader;
  return {
    ...reader,
    read: (name, range) => until(reader.read(name, range), signal),
    ...(encryption && { encryption: { ...encryption, stored: interruptible(encryption.stored, signal) } }),
  };
}

export async function readTrust(files: readonly string[]): Promise<Trust> {
  const { mergeTrust, parseTrust } = await import('../../evidence/trust.ts');
  const parts = files.map(async (file) => {
    const bytes = await readFile(file).catch((error: unknown) => {
      throw new ExhibitError('usage', `The key ${file} cannot be read (${explain(error)}).`, { cause: error });
    });
    return parseTrust(bytes, file);
  });
  return mergeTrust(await Promise.all(parts));
}

/** As many findings as a person reads; all are in `--json`. */
const MAX_SHOWN_FINDINGS = 40;

/** The verdict first, then who sealed it, what is wrong, what follows from it and what does not. */
function describeReport(report: VerifyReport): string {
  const { counts } = report;
  const fields = formatFields([
    ['bundle', report.url],
    ['capture', report.captureId],
    [
      'checked',
      `${formatCount(counts.objects, 'object')}, ${formatCount(counts.members, 'member')}, ${formatBytes(counts.bytes)}`,
    ],
    ['encryption', report.encryption && (report.encryption.read ? 'age, opened' : 'age, not opened')],
    ['signer', signersOf(report)],
    ['timestamp', report.timestamp?.words],
    ['custody', report.custody === undefined ? undefined : describeCustody(report.custody)],
    ['found', `${formatCount(counts.errors, 'error')}, ${formatCount(counts.warnings, 'warning')}`],
  ]);
  const shown = report.findings.slice(0, MAX_SHOWN_FINDINGS);
  const hidden = report.findings.length - shown.length;
  const more = hidden > 0 ? [`${hidden} more, see --json`] : [];
  return [
    `${verdictOf(report)}\n`,
    fields,
    section('Findings:', [...shown.map(describeFinding), ...more]),
    section('This proves:', report.proves),
    section('This does not prove:', report.doesNotProve),
  ].join('');
}

/** The one whom `signer` names first, then the others. */
function signersOf({ signer, signers }: VerifyReport): string {
  const others = signers.filter(({ keyId }) => keyId !== signer?.keyId);
  return [signer, ...others].map((one) => one?.words ?? 'none').join('; ');
}

function verdictOf({ intact, intactAsStored, sealed }: VerifyReport): string {
  if (intact) return 'INTACT';
  if (intactAsStored)
    return 'INTACT AS STORED: every stored byte is what was sealed; what it holds is encrypted and was not checked';
  return sealed ? 'NOT INTACT' : 'NOT INTACT: this capture was never sealed';
}

function describeCustody({ events, clocks }: NonNullable<VerifyReport['custody']>): string {
  const [clock] = clocks;
  const words = formatCount(events, 'event');
  if (clock === undefined) return `${words}, the node’s clock was compared with no other`;
  const more = clocks.length > 1 ? `, and ${formatCount(clocks.length - 1, 'more comparison')}` : '';
  return `${words}; add ${clock.offsetMs} ms (± ${clock.uncertaintyMs}) to the node’s times to have those of ${clock.source}${more}`;
}
