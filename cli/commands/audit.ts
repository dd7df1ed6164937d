import type { Command } from 'commander';
import { examples, GROUPS, optionsOf, withController } from '../command.ts';
import { custodyView } from '../controller/view.ts';
import { formatTable, formatTime, toJson } from '../print.ts';
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
    .action(async () => {
      const options = optionsOf<{ capture?: string; case?: string; after: string }>(command);
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
  ]);
}
