import type { Command } from 'commander';
import type { AgentClient } from './client.ts';
import { toJson } from './print.ts';
import type { Session } from './session.ts';

/** Options that every command has. */
export interface CommonOptions {
  readonly socket: string;
  readonly json?: boolean;
}

/** Headings of the command list in `exhibit --help`. */
export const GROUPS = {
  node: 'On the node, through the agent:',
  evidence: 'With the evidence, anywhere:',
  agent: 'The agent itself:',
  trial: 'For trials:',
} as const;

/** All options of a command, those before its name included. The type is the caller's claim about what it registered. */
export function optionsOf<Options>(command: Command): Options & CommonOptions {
  return command.optsWithGlobals<Options & CommonOptions>();
}

/** Connects, works, hangs up. gRPC is loaded only here: commands that work offline start without it. */
export async function withAgent<Result>(
  session: Session,
  options: CommonOptions,
  work: (client: AgentClient) => Promise<Result>,
): Promise<Result> {
  const { connectAgent } = await import('./client.ts');
  using client = await connectAgent(options.socket, session.signal);
  return await work(client);
}

/** The result on stdout: one JSON document with `--json`, otherwise the words. */
export async function answer(
  session: Session,
  options: CommonOptions,
  result: { document: unknown; words: () => string },
): Promise<void> {
  await session.stdout.write(options.json === true ? `${toJson(result.document, 2)}\n` : result.words());
}

/** Examples below a command's help; each is a command line and what it does. */
export function examples(command: Command, lines: readonly (readonly [line: string, what: string])[]): void {
  const text = lines.map(([line, what]) => `  # ${what}\n  $ ${line}`).join('\n');
  command.addHelpText('after', `\nExamples:\n${text}\n`);
}
