import type { Command } from 'commander';
import { answer, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { describeControlled } from '../controller/describe.ts';
import { controlledView } from '../controller/view.ts';
import type { Session } from '../session.ts';

/** `exhibit approve ID` and `exhibit deny ID`: the second person. */
export function registerApprove(program: Command, session: Session): void {
  const approve = program
    .command('approve')
    .description('let a capture that waits for a second person begin')
    .helpGroup(GROUPS.controller)
    .argument('<id>', 'capture id')
    .action(async (captureId: string) => {
      const options = optionsOf<object>(approve);
      const one = controlledView(
        await withController(session, options, (client) =>
          client.call('ApproveCapture', { captureId }, session.signal),
        ),
      );
      await answer(session, options, { document: one, words: () => describeControlled(one) });
    });
  examples(approve, [['exhibit approve 0198c0de-3c4f-7a10-8000-5f2c0a7e9b11', 'never by the one who asked for it']]);

  const deny = program
    .command('deny')
    .description('refuse a capture that waits for a second person')
    .helpGroup(GROUPS.controller)
    .argument('<id>', 'capture id')
    .option('--reason <text>', 'why, for the record')
    .action(async (captureId: string) => {
      const options = optionsOf<{ reason?: string }>(deny);
      const request = { captureId, reason: options.reason ?? '' };
      const one = controlledView(
        await withController(session, options, (client) => client.call('DenyCapture', request, session.signal)),
      );
      await answer(session, options, { document: one, words: () => describeControlled(one) });
    });
  examples(deny, [['exhibit deny 0198c0de-3c4f-7a10-8000-5f2c0a7e9b11 --reason "not this one"', 'it never begins']]);
}
