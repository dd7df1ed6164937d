/**
 * `node cli/health.ts [FILE...]`: whether the program of this container lives, for the image's HEALTHCHECK. Exit code 0 or 1, and a
 * sentence. It reads where to ask from the configuration that the program runs with: `metrics.listen`, and without one the agent's
 * socket or the controller's API, which have to take a connection.
 */
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { pathToFileURL } from 'node:url';
import { parse } from 'yaml';
import { readAddress } from '../proto/address.ts';
import { DEFAULT_SOCKET } from './default-socket.ts';

/** Where manifests and docs have them; a container has one of the two. */
const USUAL_FILES = ['/etc/exhibit/agent.yaml', '/etc/exhibit/controller.yaml'];
/** As the controller's own default. */
const USUAL_API = '0.0.0.0:8443';
/** Docker ends the check itself after five seconds, without a word. */
const ANSWER_MS = 4_000;

/** What is asked of the program that runs with this configuration. */
export type Question =
  | { readonly kind: 'http'; readonly host: string; readonly port: number }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'socket'; readonly path: string };

/** Who listens everywhere is asked on this machine. */
const nearby = (host: string): string => ({ '0.0.0.0': '127.0.0.1', '::': '::1' })[host] ?? host;

/** Pure. Of a configuration that cannot be read so, the defaults. */
export function questionFor(config: unknown, env: NodeJS.ProcessEnv = {}): Question {
  const metrics = addressIn(config, 'metrics', 'listen');
  if (metrics !== undefined) return { kind: 'http', ...metrics };
  // Only a controller has agents.
  if (at(config, 'agents') === undefined) {
    const socket = at(config, 'socket');
    return { kind: 'socket', path: env.EXHIBIT_SOCKET ?? (typeof socket === 'string' ? socket : DEFAULT_SOCKET) };
  }
  const api = readAddress(env.EXHIBIT_API_LISTEN ?? '') ?? addressIn(config, 'api', 'listen') ?? readAddress(USUAL_API);
  return { kind: 'tcp', host: nearby(api?.host ?? ''), port: api?.port ?? 0 };
}

function at(value: unknown, ...keys: readonly string[]): unknown {
  let found = value;
  for (const key of keys) found = typeof found === 'object' && found !== null ? Reflect.get(found, key) : undefined;
  return found;
}

function addressIn(config: unknown, ...keys: readonly string[]) {
  const text = at(config, ...keys);
  const address = typeof text === 'string' ? readAddress(text) : undefined;
  return address === undefined ? undefined : { ...address, host: nearby(address.host) };
}

/** Rejects with why it does not live. */
export async function ask(question: Question): Promise<void> {
  if (question.kind === 'http') {
    const host = question.host.includes(':') ? `[${question.host}]` : question.host;
    const signal = AbortSignal.timeout(ANSWER_MS);
    const { ok, status } = await fetch(`http://${host}:${question.port}/healthz`, { signal });
    if (!ok) throw new Error(`it answers ${status}`);
    return;
  }
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const socket = net.connect(question.kind === 'tcp' ? question : { path: question.path });
  socket.once('connect', () => resolve()).once('error', reject);
  socket.setTimeout(ANSWER_MS, () => reject(new Error('it does not answer')));
  await promise.finally(() => socket.destroy());
}

/** Of the first file that is there. */
export function readConfig(files: readonly string[]): unknown {
  for (const file of files) {
    try {
      return parse(readFileSync(file, 'utf8'));
    } catch {
      // The program that could not read it does not live, which is found by asking.
    }
  }
  return undefined;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const given = process.argv.slice(2);
  try {
    await ask(questionFor(readConfig(given.length > 0 ? given : USUAL_FILES), process.env));
    process.stdout.write('it lives\n');
  } catch (error) {
    process.stdout.write(`it does not live: ${error instanceof Error ? error.message : 'no reason was given'}\n`);
    process.exitCode = 1;
  }
}
