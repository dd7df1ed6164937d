import type { Command } from 'commander';
import { answer, examples, GROUPS, optionsOf, withController } from '../command.ts';
import { failUnlessGood, followCaptures } from '../controller/capture.ts';
import { describeControlled } from '../controller/describe.ts';
import { controlledView } from '../controller/view.ts';
import { jsonProgress, personProgress } from '../progress.ts';
import type { Session } from '../session.ts';

/** `exhibit watch ID`: a capture's progress until it has ended, wherever it runs. */
export function registerWatch(program: Command, session: Session): void {
  const command = program
    .command('watch')
    .description('follow a capture to its end, wherever it runs')
    .helpGroup(GROUPS.controller)
    .argument('<id>', 'capture id, or the first characters that only one capture has')
    .action(async (id: string) => {
      const options = optionsOf<object>(command);
      const progress = options.json === true ? jsonProgress(session.stdout) : await personProgress(session.stderr);
      const ended = await withController(session, options, async (client) => {
        const there = controlledView(await client.call('GetCapture', { captureId: id }, session.signal));
        if (there.state === 'awaiting-approval' && options.json !== true)
          await session.stderr.write(`It waits for a second person: exhibit approve ${there.captureId}\n`);
        return await followCaptures(client, [there], progress, { signal: session.signal, until: 'end' });
      }).finally(() => progress.stop());
      await answer(session, options, { document: ended[0], words: () => ended.map(describeControlled).join('\n') });
      failUnlessGood(ended);
    });
  examples(command, [['exhibit watch 0198c0de', 'by the beginning of its id']]);
}
