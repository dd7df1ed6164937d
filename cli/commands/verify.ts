import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import { ExhibitError, explain } from '../../evidence/error.ts';
import type { Finding } from '../../evidence/findings.ts';
import type { VerifyReport } from '../../evidence/verify.ts';
import { type BundleOptions, openBundle, takesBundle, until } from '../bundle.ts';
import { answer, examples, GROUPS, optionsOf } from '../command.ts';
import { escapeText, formatBytes, formatCount, formatFields } from '../print.ts';
import { verifyProgress } from '../progress.ts';
import type { Session } from '../session.ts';

type Options = BundleOptions & { trust?: readonly string[] };

/** `exhibit verify BUNDLE`: complete and unaltered? Exit 1 when it is not. */
export function registerVerify(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('verify')
      .description('check a bundle offline: seal, every digest, every member, nothing missing, nothing added')
      .helpGroup(GROUPS.evidence),
  )
    .option('--trust <key.pem...>', 'public keys to believe; without any, the seal is only checked against itself')
    .action(async (bundle: string) => verify(session, bundle, optionsOf<Options>(command)));
  examples(command, [
    ['exhibit verify ./0198c0de-3c4f-7a10-8000-5f2c0a7e9b11 --trust agent.pub.pem', 'a folder, by a key you know'],
    ['exhibit verify s3://evidence/prod/node-1/0198c0de-3c4f-7a10-8000-5f2c0a7e9b11 --region eu-central-1', 'in S3'],
    ['exhibit verify s3://evidence/c/n/ID --endpoint http://127.0.0.1:9000', 'in a server that speaks S3'],
    ["exhibit verify BUNDLE --json | jq -r '.findings[] | .object'", 'what is wrong, for a script'],
  ]);
}

async function verify(session: Session, bundle: string, options: Options): Promise<void> {
  const { verifyBundle } = await import('../../evidence/verify.ts');
  const trustedKeys = await readKeys(options.trust ?? []);
  await using reader = await openBundle(bundle, options, session.signal);
  const progress = options.json === true ? undefined : await verifyProgress(session.stderr);
  let report: VerifyReport;
  try {
    // A read that hangs (a network) ends with Ctrl-C.
    report = await verifyBundle(interruptible(reader, session.signal), {
      trustedKeys,
      signal: session.signal,
      ...(progress === undefined ? {} : { onProgress: progress.show }),
    });
  } catch (error) {
    session.signal.throwIfAborted();
    throw error;
  } finally {
    progress?.stop();
  }
  session.signal.throwIfAborted();
  if (!report.intact) session.exitCode = report.intactAsStored ? EXIT_AS_STORED : 1;
  await answer(session, options, { document: report, words: () => describeReport(report) });
}

/** The stored bytes are what was sealed, and what they hold was not looked at: neither a success nor a fault. */
const EXIT_AS_STORED = 3;

function interruptible(reader: BundleReader, signal: AbortSignal): BundleReader {
  const { encryption } = reader;
  return {
    ...reader,
    read: (name, range) => until(reader.read(name, range), signal),
    ...(encryption && { encryption: { ...encryption, stored: interruptible(encryption.stored, signal) } }),
  };
}

async function readKeys(files: readonly string[]) {
  const { parseTrustedKey } = await import('../../evidence/seal.ts');
  return await Promise.all(
    files.map(async (file) => {
      const pem = await readFile(file).catch((error: unknown) => {
        throw new ExhibitError('usage', `The key ${file} cannot be read (${explain(error)}).`, { cause: error });
      });
      return parseTrustedKey(pem, file);
    }),
  );
}

/** As many findings as a person reads; all are in `--json`. */
const MAX_SHOWN_FINDINGS = 40;

/** The verdict first, then who sealed it, what is wrong, what follows from it and what does not. */
export function describeReport(report: VerifyReport): string {
  const { counts } = report;
  const fields = formatFields([
    ['bundle', report.url],
    ['capture', report.captureId],
    [
      'checked',
      `${formatCount(counts.objects, 'object')}, ${formatCount(counts.members, 'member')}, ${formatBytes(counts.bytes)}`,
    ],
    ['encryption', report.encryption && (report.encryption.read ? 'age, opened' : 'age, not opened')],
    ['signer', report.signer?.words ?? 'none'],
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

function verdictOf({ intact, intactAsStored, sealed }: VerifyReport): string {
  if (intact) return 'INTACT';
  if (intactAsStored)
    return 'INTACT AS STORED: every stored byte is what was sealed; what it holds is encrypted and was not checked';
  return sealed ? 'NOT INTACT' : 'NOT INTACT: this capture was never sealed';
}

/** `error object-digest: memory.tar.zst ... (memory)` */
function describeFinding(finding: Finding): string {
  const artifact = finding.artifact === undefined ? '' : ` (artifact ${finding.artifact})`;
  return `${finding.severity} ${finding.code}: ${finding.message}${artifact}`;
}

function section(heading: string, lines: readonly string[]): string {
  if (lines.length === 0) return '';
  return `\n${heading}\n${lines.map((line) => `  ${escapeText(line)}\n`).join('')}`;
}
