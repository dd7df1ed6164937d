/** Docker's own event stream, of containers that die or run out of memory. */
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { ExhibitError, explain } from '../../evidence/error.ts';
import type { ExitEvent, ExitEvents } from './exits.ts';
import { jsonOf } from './snapshot.ts';

const eventSchema = z.object({
  Type: z.literal('container'),
  Action: z.string(),
  Actor: z.object({ ID: z.string().min(1), Attributes: z.record(z.string(), z.string()).nullish() }),
});

/** One event is some hundred bytes and the labels of the container; labels have no bound of their own. */
const LINE_BYTES = 1024 * 1024;

/** Docker's time of the event is not the container's FinishedAt, so it is not told. */
export function readDockerEvent(line: string): ExitEvent | undefined {
  const parsed = eventSchema.safeParse(jsonOf(line));
  if (!parsed.success) return undefined;
  const { Action, Actor } = parsed.data;
  if (Action === 'oom') return { kind: 'oom', containerId: Actor.ID };
  if (Action !== 'die') return undefined;
  const exitCode = Number(Actor.Attributes?.exitCode);
  return {
    kind: 'exit',
    containerId: Actor.ID,
    exitCode: Number.isInteger(exitCode) ? exitCode : 0,
    finishedAtMs: undefined,
  };
}

export function dockerExits(socket: string): ExitEvents {
  return async function* follow(signal) {
    try {
      const { default: Dockerode } = await import('dockerode');
      const docker = new Dockerode({ socketPath: socket });
      const filters = JSON.stringify({ type: ['container'], event: ['die', 'oom'] });
      const stream = (await docker.getEvents({ filters, abortSignal: signal })) as Readable;
      yield* eventsIn(stream);
    } catch (error) {
      if (signal.aborted) throw new ExhibitError('cancelled', 'following Docker was cancelled', { cause: error });
      throw new ExhibitError('runtime-unreachable', `Docker's events at ${socket}: ${explain(error)}`, {
        cause: error,
      });
    }
  };
}

async function* eventsIn(stream: Readable): AsyncGenerator<ExitEvent> {
  let rest = '';
  for await (const chunk of stream.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LINE_BYTES) throw new Error(`an event is longer than ${LINE_BYTES} bytes`);
    for (const line of lines) {
      const event = readDockerEvent(line);
      if (event !== undefined) yield event;
    }
  }
}
