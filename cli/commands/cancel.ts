import type { Command } from 'commander';
import { answer, examples, GROUPS, optionsOf, withAgent } from '../command.ts';
import type { Session } from '../session.ts';
import { captureView } from '../view.ts';
import { describeCapture } from './show.ts';

/** `exhibit cancel ID`: ends a capture early; what it stored so far stays. */
export function registerCancel(program: Command, session: Session): void {
  const command = program
    .command('cancel')
    .description('end a running capture early; what it stored so far stays, sealed as cancelled')
    .helpGroup(GROUPS.node)
    .argument('<id>', 'capture id')
    .action(async (id: string) => {
      const options = optionsOf<object>(command);
      const capture = captureView(await withAgent(session, options, (client) => client.cancel(id, session.signal)));
      const head = capture.state === 'cancelled' ? '' : 'Nothing was left to cancel, it had already ended.\n\n';
      await answer(session, options, { document: capture, words: () => `${head}${describeCapture(capture)}` });
    });
  examples(command, [['exhibit cancel 0198c0de-3c4f-7a10-8000-5f2c0a7e9b11', 'end this one']]);
}
