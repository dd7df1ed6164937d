import { type Command, InvalidArgumentError } from 'commander';
import { answer, examples, GROUPS, optionsOf, withAgent } from '../command.ts';
import { formatBytes, formatTable, formatTime } from '../print.ts';
import type { Session } from '../session.ts';
import { captureView, stateWords } from '../view.ts';

/** More than the agent keeps. */
const MAX_LIMIT = 10_000;

/** `exhibit captures`: what the agent captured, newest first. */
export function registerCaptures(program: Command, session: Session): void {
  const command = program
    .command('captures')
    .description("list this agent's captures, newest first")
    .helpGroup(GROUPS.node)
    .option('--limit <number>', 'how many to list', parseLimit, 20)
    .action(async () => {
      const options = optionsOf<{ limit: number }>(command);
      const response = await withAgent(session, options, (client) =>
        client.listCaptures(options.limit, session.signal),
      );
      await answer(session, options, {
        document: { captures: response.captures.map(captureView) },
        words() {
          if (response.captures.length === 0) return 'No captures yet: `exhibit capture TARGET` makes one.\n';
          const rows = response.captures.map((capture) => [
            capture.captureId,
            formatTime(Number(capture.startedAtMs)),
            stateWords(capture),
            capture.target,
            formatBytes(Number(capture.storedBytes)),
            String(capture.gapCount),
            capture.caseId,
          ]);
          return formatTable(['CAPTURE', 'STARTED', 'STATE', 'TARGET', 'STORED', 'GAPS', 'CASE'], rows);
        },
      });
    });
  examples(command, [
    ['exhibit captures --limit 5', 'the last five'],
    [
      `exhibit captures --json | jq -r '.captures[] | select(.state == "running") | .captureId'`,
      'those that still run',
    ],
  ]);
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^[0-9]+$/.test(text) || limit < 1 || limit > MAX_LIMIT) {
    throw new InvalidArgumentError(`Give a whole number from 1 to ${MAX_LIMIT}.`);
  }
  return limit;
}
