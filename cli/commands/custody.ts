import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import type { BundleReader } from '../../evidence/bundle.ts';
import { isExhibitError } from '../../evidence/error.ts';
import { SEAL_OBJECT, TIMESTAMP_OBJECT } from '../../evidence/layout.ts';
import { type BundleOptions, openBundle, takesBundle, until } from '../bundle.ts';
import { chainOf } from '../chain.ts';
import { examples, GROUPS, optionsOf } from '../command.ts';
import type { CustodyCheck } from '../custody-record.ts';
import { openDestination } from '../destination.ts';
import type { Document } from '../document.ts';
import { openNewFile } from '../new-file.ts';
import { escapeText, toJson } from '../print.ts';
import type { Session } from '../session.ts';
import { packageVersion } from '../version.ts';
import { check, EXIT_AS_STORED, readTrust } from './verify.ts';

type Options = BundleOptions & {
  trust?: readonly string[];
  out?: string;
  html?: string;
  verify?: boolean;
  chain?: boolean;
};

/** `exhibit custody BUNDLE`: the record that goes into the file of a case, as Markdown or as a page to print. */
export function registerCustody(program: Command, session: Session): void {
  const command = takesBundle(
    program
      .command('custody')
      .description('write the custody record of a bundle: who, what, when, with what, digests, gaps, result of a check')
      .helpGroup(GROUPS.evidence),
  )
    .option('--out <file>', 'the record in Markdown, there instead of on stdout; nothing is overwritten')
    .option('--html <file>', 'the record as a page to print')
    .option('--verify', 'check every object, as `exhibit verify` does; without it only seal, records and custody log')
    .option('--chain', 'look at the captures beside it as well')
    .option('--trust <key.pem...>', 'public keys to believe')
    .action(async (bundle: string) => custody(session, bundle, optionsOf<Options>(command)));
  examples(command, [
    ['exhibit custody BUNDLE --verify --chain --trust agent.pub.pem --html record.html', 'to print and to sign'],
    ['exhibit custody BUNDLE | less', 'to read'],
  ]);
}

async function custody(session: Session, bundle: string, options: Options): Promise<void> {
  await using reader = await openBundle(bundle, options, session.signal);
  const { record, verdict } = await makeRecord(session, reader, options);
  if (verdict !== 'good') session.exitCode = verdict === 'as-stored' ? EXIT_AS_STORED : 1;
  if (options.html !== undefined) {
    const { toHtml } = await import('../document-html.ts');
    await using file = await openNewFile(options.html, 'choose another --html');
    await file.write(Buffer.from(toHtml(record)));
    await file.commit();
    if (options.json !== true) await session.stderr.write(`exhibit: ${escapeText(options.html)} is written\n`);
  }
  if (options.json === true) await session.stdout.write(`${toJson(record, 2)}\n`);
  if (options.out === undefined && (options.json === true || options.html !== undefined)) return;
  const { toMarkdown } = await import('../document-markdown.ts');
  await using destination = await openDestination(session, options.out, 'custody.md');
  await destination.write(Buffer.from(toMarkdown(record)));
  await destination.commit();
}

async function makeRecord(
  session: Session,
  reader: BundleReader,
  options: Options,
): Promise<{ record: Document; verdict: CustodyCheck['verdict'] }> {
  const { checkRecords } = await import('../../evidence/verify.ts');
  const { createFindings } = await import('../../evidence/findings.ts');
  const { addLocked } = await import('../../evidence/verify-encrypted.ts');
  const { custodyRecord } = await import('../custody-record.ts');
  const trust = await readTrust(options.trust ?? []);
  const findings = createFindings();
  const { records, custody: log } = await checkRecords(reader, findings, { trust });
  session.signal.throwIfAborted();
  const locked = reader.encryption?.locked !== undefined;
  if (reader.encryption !== undefined) addLocked(reader.encryption, findings);
  const isSealed = records.seal !== undefined && findings.errors === 0;
  const quick: CustodyCheck = {
    kind: 'records',
    verdict: verdictOf(isSealed && records.manifest !== undefined, isSealed && locked),
    findings: findings.list(),
    proves: [],
    doesNotProve: [],
  };
  const report = options.verify === true ? await check(session, reader, options, trust) : undefined;
  const checked: CustodyCheck =
    report === undefined ? quick : { ...report, kind: 'all', verdict: verdictOf(report.intact, report.intactAsStored) };
  const chain = options.chain === true ? await chainOf(reader.url, options, session.signal, trust) : undefined;
  const record = custodyRecord({
    records,
    custody: log,
    url: reader.url,
    now: new Date(),
    version: packageVersion(),
    sealSha256: await digestOf(reader, SEAL_OBJECT, session.signal),
    hasTimestamp: (await digestOf(reader, TIMESTAMP_OBJECT, session.signal)) !== undefined,
    check: checked,
    chain,
    locked,
  });
  return { record, verdict: chain?.whole === false ? 'bad' : checked.verdict };
}

function verdictOf(isGood: boolean, isAsStored: boolean): CustodyCheck['verdict'] {
  if (isGood) return 'good';
  return isAsStored ? 'as-stored' : 'bad';
}

/** Undefined when the object is not there, or larger than a seal is. */
async function digestOf(reader: BundleReader, object: string, signal: AbortSignal): Promise<string | undefined> {
  const { readAtMost } = await import('../../evidence/byte-sink.ts');
  const { MAX_SEAL_BYTES } = await import('../../evidence/seal.ts');
  try {
    const bytes = await readAtMost(until(reader.read(object), signal), MAX_SEAL_BYTES);
    return bytes && createHash('sha256').update(bytes).digest('hex');
  } catch (error) {
    if (isExhibitError(error, 'bundle-not-found')) return undefined;
    throw error;
  }
}
