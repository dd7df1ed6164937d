import type { Command } from 'commander';
import { answer, type CommonOptions, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { everyPage } from '../controller/pages.ts';
import { caseView } from '../controller/view.ts';
import { formatFields, formatTable } from '../print.ts';
import type { Session } from '../session.ts';

/** `exhibit cases`: what captures belong to. */
export function registerCases(program: Command, session: Session): void {
  const cases = program
    .command('cases')
    .description('list, open, note and close cases')
    .helpGroup(GROUPS.controller)
    .option('--state <state>', 'open or closed (default: both)');
  cases.action(async () => {
    const options = optionsOf<{ state?: string }>(cases);
    const all = await withController(session, options, async (client) =>
      everyPage(async (pageToken) => {
        const request = { state: options.state ?? '', pageSize: 1000, pageToken };
        const page = await client.call('ListCases', request, session.signal);
        return { rows: page.cases.map(caseView), next: page.nextPageToken };
      }),
    );
    await answer(session, options, {
      document: { cases: all },
      words() {
        if (all.length === 0) return 'There is no such case: `exhibit cases open ID --title TEXT` opens one.\n';
        const rows = all.map((one) => [
          one.caseId,
          one.state,
          one.openedAt ?? '',
          one.openedBy,
          String(one.captureCount),
          one.title,
        ]);
        return formatTable(['CASE', 'STATE', 'OPENED', 'BY', 'CAPTURES', 'TITLE'], rows);
      },
    });
  });
  registerOpen(cases, session);
  registerCaseShow(cases, session);
  registerNote(cases, session);
  registerClose(cases, session);
  examples(cases, [
    ['exhibit cases open IR-2031 --title "miner in prod"', 'open one'],
    ['exhibit capture prod/web-0 --case IR-2031', 'a capture of it'],
    ['exhibit cases close IR-2031 --text "handed over"', 'no more captures'],
  ]);
}

function registerOpen(cases: Command, session: Session): void {
  const open = cases
    .command('open')
    .description('open a case')
    .argument('<id>', 'its number, as your organisation has it')
    .requiredOption('--title <text>', 'what it is about')
    .action(async (caseId: string) => {
      const options = optionsOf<{ title: string }>(open);
      await show(session, options, (client) =>
        client.call('OpenCase', { caseId, title: options.title }, session.signal),
      );
    });
}

function registerCaseShow(cases: Command, session: Session): void {
  const one = cases
    .command('show')
    .description('one case with its notes')
    .argument('<id>', 'the case')
    .action(async (caseId: string) => {
      await show(session, optionsOf<object>(one), (client) => client.call('GetCase', { caseId }, session.signal));
    });
}

function registerNote(cases: Command, session: Session): void {
  const note = cases
    .command('note')
    .description('add a note to a case; it can never be changed')
    .argument('<id>', 'the case')
    .requiredOption('--text <text>', 'the note')
    .action(async (caseId: string) => {
      const options = optionsOf<{ text: string }>(note);
      await show(session, options, (client) => client.call('NoteCase', { caseId, text: options.text }, session.signal));
    });
}

function registerClose(cases: Command, session: Session): void {
  const close = cases
    .command('close')
    .description('close a case: no more captures belong to it')
    .argument('<id>', 'the case')
    .option('--text <text>', 'the last note')
    .action(async (caseId: string) => {
      const options = optionsOf<{ text?: string }>(close);
      const request = { caseId, text: options.text ?? '' };
      await show(session, options, (client) => client.call('CloseCase', request, session.signal));
    });
}

async function show(
  session: Session,
  options: CommonOptions,
  work: Parameters<typeof withController<Parameters<typeof caseView>[0]>>[2],
): Promise<void> {
  const one = caseView(await withController(session, options, work));
  await answer(session, options, {
    document: one,
    words() {
      const fields = formatFields([
        ['case', one.caseId],
        ['title', one.title],
        ['state', one.state],
        ['opened', `${one.openedAt ?? '-'} by ${one.openedBy}`],
        ['closed', one.closedAt === null ? undefined : `${one.closedAt} by ${one.closedBy ?? '-'}`],
        ['captures', String(one.captureCount)],
      ]);
      if (one.notes.length === 0) return fields;
      return `${fields}\n${formatTable(
        ['AT', 'BY', 'NOTE'],
        one.notes.map(({ at, by, text }) => [at ?? '', by, text]),
      )}`;
    },
  });
}
