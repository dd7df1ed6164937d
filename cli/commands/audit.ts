import type { Command } from 'commander';
import { ExhibitError } from '../../evidence/error.ts';
import { answer, type CommonOptions, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { custodyView } from '../controller/view.ts';
import { escapeText, formatTable, formatTime, toJson } from '../print.ts';
import type { Session } from '../session.ts';

/** A page; the log can have millions of entries, and is never held whole. */
const PAGE_SIZE = 1000;

/** `exhibit audit`: the controller's own log of who did what, hash-chained. */
export function registerAudit(program: Command, session: Session): void {
  const command = program
    .command('audit')
    .description("print the controller's log of who did what, oldest first; with --json as lines that can be checked")
    .helpGroup(GROUPS.controller)
    .option('--capture <id>', 'only what is about this capture')
    .option('--case <id>', 'only what is about this case')
    .option('--after <number>', 'only what comes after this number of the log', '0')
    .option('--check <file>', 'check the whole log that --json wrote to this file, and ask nobody')
    .option('--end <number:digest>', 'with --check: what the log has reached before')
    .action(async () => {
      const options = optionsOf<{ capture?: string; case?: string; after: string; check?: string; end?: string }>(
        command,
      );
      if (options.check !== undefined) return await check(session, options.check, options);
      if (options.end !== undefined) throw new ExhibitError('usage', '--end goes with --check FILE.');
      await withController(session, options, async (client) => {
        let afterSeq = options.after;
        for (let more = true; more; ) {
          const request = {
            captureId: options.capture ?? '',
            caseId: options.case ?? '',
            afterSeq,
            pageSize: PAGE_SIZE,
          };
          const page = await client.call('ListCustody', request, session.signal);
          const entries = page.entries.map(custodyView);
          await session.stdout.write(
            options.json === true
              ? entries.map((one) => `${toJson(one)}\n`).join('')
              : formatTable(
                  ['NUMBER', 'AT', 'WHO', 'WHAT', 'CAPTURE', 'CASE', 'DETAILS'],
                  entries.map((one) => [
                    String(one.seq),
                    formatTime(one.atMs),
                    one.actor,
                    one.action,
                    one.captureId,
                    one.caseId,
                    one.details,
                  ]),
                ),
          );
          more = page.more && entries.length > 0 && !session.stdout.hungUp.aborted;
          afterSeq = String(entries.at(-1)?.seq ?? afterSeq);
        }
      });
    });
  examples(command, [
    ['exhibit audit --case IR-2031', 'who did what in this case'],
    ['exhibit audit --json > audit.jsonl', 'all of it, for admins'],
    ['exhibit audit --check audit.jsonl', 'is an entry altered, missing, or put in?'],
  ]);
}

/** Exit 1 when the log is not whole. */
async function check(session: Session, file: string, options: CommonOptions & { end?: string }): Promise<void> {
  const { checkAuditFile, endText } = await import('../audit-check.ts');
  const { entries, end, problems } = checkAuditFile(file, options.end);
  const whole = problems.length === 0;
  if (!whole) session.exitCode = 1;
  const words = [
    whole ? 'WHOLE' : 'NOT WHOLE',
    `entries  ${entries}`,
    `end      ${endText(end)}`,
    ...problems.map((problem) => `  ${escapeText(problem)}`),
    ...(whole ? ['Keep the end elsewhere: entries that are cut off after it show only against it (--end).'] : []),
  ];
  await answer(session, options, { document: { whole, entries, end, problems }, words: () => `${words.join('\n')}\n` });
}
