import type { Command } from 'commander';
import { answer, ask, examples, GROUPS, optionsOf } from '../command.ts';
import { describeAsked } from '../controller/describe.ts';
import { controlledView, isOpen } from '../controller/view.ts';
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
      await ask(session, options, {
        async agent(client) {
          const capture = captureView(await client.cancel(id, session.signal));
          const head = capture.state === 'cancelled' ? '' : NOTHING_LEFT;
          await answer(session, options, { document: capture, words: () => `${head}${describeCapture(capture)}` });
        },
        async controller(client) {
          const one = controlledView(await client.call('CancelCapture', { captureId: id }, session.signal));
          const head = one.state === 'cancelled' ? '' : isOpen(one.state) ? TOLD : NOTHING_LEFT;
          await answer(session, options, { document: one, words: () => `${head}${describeAsked(one)}` });
        },
      });
    });
  examples(command, [['exhibit cancel 0198c0de-3c4f-7a10-8000-5f2c0a7e9b11', 'end this one']]);
}

const NOTHING_LEFT = 'Nothing was left to cancel, it had already ended.\n\n';
const TOLD = 'The agent is told to end it; `exhibit watch` shows when it has.\n\n';
