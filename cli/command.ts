import type { Command } from 'commander';
import { ExhibitError } from '../evidence/error.ts';
import type { AgentClient } from './client.ts';
import { type CommonOptions, type Connection, connectionOf } from './connection.ts';
import type { ControllerClient } from './controller/client.ts';
import { toJson } from './print.ts';
import type { Session } from './session.ts';

export type { CommonOptions } from './connection.ts';

/** Headings of the command list in `exhibit --help`. */
export const GROUPS = {
  node: 'On the node, through the agent; or over all nodes, through a controller:',
  controller: 'Through a controller:',
  evidence: 'With the evidence, anywhere:',
  agent: 'The agent itself:',
  trial: 'For trials:',
} as const;

/** All options of a command, those before its name included. The type is the caller's claim about what it registered. */
export function optionsOf<Options>(command: Command): Options & CommonOptions {
  return command.optsWithGlobals<Options & CommonOptions>();
}

/** What a command does with whom it talks to. */
export interface Ways<Result> {
  agent(client: AgentClient, socket: string): Promise<Result>;
  controller(client: ControllerClient): Promise<Result>;
}

/** Connects, works, hangs up. gRPC is loaded only here: commands that work offline start without it. */
export async function ask<Result>(session: Session, options: CommonOptions, ways: Ways<Result>): Promise<Result> {
  const connection = await connectionOf(options, session.env);
  switch (connection.kind) {
    case 'agent':
      return await askAgent(session, connection, ways.agent);
    case 'controller':
      return await askController(session, connection, ways.controller);
    default:
      return connection satisfies never;
  }
}

/** For what only an agent can answer. */
export async function withAgent<Result>(
  session: Session,
  options: CommonOptions,
  work: Ways<Result>['agent'],
): Promise<Result> {
  const connection = await connectionOf(options, session.env);
  if (connection.kind === 'agent') return await askAgent(session, connection, work);
  throw new ExhibitError(
    'usage',
    `This asks the agent of one node, and ${connection.controller.controller} is a controller: run it on the node, with --socket.`,
  );
}

/** For what only a controller can answer. */
export async function withController<Result>(
  session: Session,
  options: CommonOptions,
  work: Ways<Result>['controller'],
): Promise<Result> {
  const connection = await connectionOf(options, session.env);
  if (connection.kind === 'controller') return await askController(session, connection, work);
  throw new ExhibitError(
    'usage',
    'This asks a controller: name it with --controller HOST:PORT, or choose a context with `exhibit context use NAME`.',
  );
}

/** An option that an agent would have to pass over in silence. */
export function goesWithController(option: string): ExhibitError {
  return new ExhibitError(
    'usage',
    `${option} goes with a controller: name one with --controller HOST:PORT, or choose a context with \`exhibit context use NAME\`.`,
  );
}

async function askAgent<Result>(
  session: Session,
  { socket }: Extract<Connection, { kind: 'agent' }>,
  work: Ways<Result>['agent'],
): Promise<Result> {
  const { connectAgent } = await import('./client.ts');
  using client = await connectAgent(socket, session.signal);
  return await work(client, socket);
}

async function askController<Result>(
  session: Session,
  { controller }: Extract<Connection, { kind: 'controller' }>,
  work: Ways<Result>['controller'],
): Promise<Result> {
  const { connectController } = await import('./controller/client.ts');
  using client = await connectController(controller, session.signal);
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
