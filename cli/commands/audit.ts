import { type Command, InvalidArgumentError } from 'commander';
import type { ChainEnd } from '../../evidence/audit-log.ts';
import { ExhibitError, isExhibitError } from '../../evidence/error.ts';
import { checkAuditFile, readKnownEnd } from '../audit-check.ts';
import { answer, type CommonOptions, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { custodyView } from '../controller/view.ts';
import { formatTable, formatTime, toJson } from '../print.ts';
import type { Session } from '../session.ts';

/** A page; the log can have millions of entries, and is never held whole. */
const PAGE_SIZE = 1000;

interface Options extends CommonOptions {
  readonly capture?: string;
  readonly case?: string;
  readonly after: string;
  readonly check?: string;
  readonly known?: ChainEnd;
}

/** `exhibit audit`: the controller's own log of who did what, hash-chained; with `--check` an exported one, offline. */
export function registerAudit(program: Command, session: Session): void {
  const command = program
    .command('audit')
    .description("print the controller's log of who did what, oldest first; with --json as lines that can be checked")
    .helpGroup(GROUPS.controller)
    .option('--capture <id>', 'only what is about this capture')
    .option('--case <id>', 'only what is about this case')
    .option('--after <number>', 'only what comes after this number of the log', parseNumber, '0')
    .option('--check <file>', 'ask no controller: check the chain of a whole log that was printed with --json')
    .option('--known <end>', 'with --check: NUMBER:DIGEST of an entry that was written down before', parseEnd)
    .action(async () => {
      const options = optionsOf<Options>(command);
      if (options.check !== undefined) await check(session, options, options.check);
      else if (options.known === undefined) await print(session, options);
      else throw new ExhibitError('usage', '--known goes with --check FILE.');
    });
  examples(command, [
    ['exhibit audit --case IR-2031', 'who did what in this case'],
    ['exhibit audit --json > audit.jsonl', 'all of it, for admins'],
    ['exhibit audit --check audit.jsonl --known 4711:9f2c…', 'is it whole, and what it was'],
  ]);
}

async function print(session: Session, options: Options): Promise<void> {
  await withController(session, options, async (client) => {
    let afterSeq = options.after;
    for (let more = true; more; ) {
      const request = { captureId: options.capture ?? '', caseId: options.case ?? '', afterSeq, pageSize: PAGE_SIZE };
      const page = await client.call('ListCustody', request, session.signal);
      const entries = page.entries.map(custodyView);
      await session.stdout.write(
        options.json === true ? entries.map((one) => `${toJson(one)}\n`).join('') : tableOf(entries),
      );
      more = page.more && entries.length > 0 && !session.stdout.hungUp.aborted;
      afterSeq = String(entries.at(-1)?.seq ?? afterSeq);
    }
  });
}

function tableOf(entries: readonly ReturnType<typeof custodyView>[]): string {
  const rows = entries.map((one) => [
    String(one.seq),
    formatTime(one.atMs),
    one.actor,
    one.action,
    one.captureId,
    one.caseId,
    one.details,
  ]);
  return formatTable(['NUMBER', 'AT', 'WHO', 'WHAT', 'CAPTURE', 'CASE', 'DETAILS'], rows);
}

async function check(session: Session, options: Options, file: string): Promise<void> {
  if (options.capture !== undefined || options.case !== undefined)
    throw new ExhibitError('usage', 'Only a whole log can be checked: leave --capture and --case out.');
  const { entries, end, problems } = await checkAuditFile(file, options.known, session.signal);
  const intact = problems.length === 0;
  await answer(session, options, {
    document: { intact, entries, end, problems },
    words: () =>
      intact
        ? `${entries === 1 ? '1 entry' : `${entries} entries`}, unaltered and in their order. What was cut off at the end shows only against an end that is kept elsewhere; this one's is\n${end.seq}:${end.digest}\n`
        : '',
  });
  if (!intact)
    throw new ExhibitError('bundle-corrupt', [`The audit log in ${file} is not intact:`, ...problems].join('\n'));
}

function parseNumber(text: string): string {
  if (/^\d{1,15}$/.test(text)) return text;
  throw new InvalidArgumentError('A number of the log is expected.');
}

function parseEnd(text: string): ChainEnd {
  try {
    return readKnownEnd(text);
  } catch (error) {
    if (isExhibitError(error, 'usage')) throw new InvalidArgumentError(error.message);
    throw error;
  }
}
