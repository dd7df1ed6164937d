import type { Logger } from 'pino';
import { v7 as uuidv7 } from 'uuid';
import { z } from 'zod';
import { explain } from '../../evidence/error.ts';
import { matchesAny } from '../../evidence/wildcard.ts';
import type { Container__Output } from '../../proto/gen/exhibit/v1/Container.ts';
import type { Selector__Output } from '../../proto/gen/exhibit/v1/Selector.ts';
import type { NodeName, Store } from '../store/store.ts';
import type { AgentLinks, Answer, Question } from './link.ts';

/** Which agents are asked; data, since it goes to the other replicas. */
export interface Wanted {
  /** Patterns with `*`; a node whose cluster fits none is not asked. */
  readonly clusters: readonly string[];
  /** Empty: every node. */
  readonly node: string;
}

/** Questions to the agents of all replicas. */
export interface Lookups extends Disposable {
  /**
   * Answers as they come, the own agents' first. Every agent that is connected somewhere and wanted has one answer: those of a
   * replica that does not answer in time are named as unreached. Nodes that are connected nowhere are not.
   * @throws ExhibitError `rate-limited`, `store-failed`
   */
  lookup(wanted: Wanted, question: Question, signal: AbortSignal): AsyncIterable<Answer>;
}

export interface LookupsOptions {
  readonly log: Logger;
  /** For another replica: what its agents have, and the way there and back. */
  readonly replicaTimeoutMs?: number;
}

const REPLICA_TIMEOUT_MS = 3_000;
/** The bus carries 1 MiB; a character is three bytes at most. One agent's answer is below this by itself, so two are. */
const BATCH_CHARS = 128 * 1024;
/** Of a single answer; what is larger is said to be. */
const MAX_ANSWER_CHARS = 320 * 1024;
const NODES_PAGE = 500;

const nodeSchema = z.object({ cluster: z.string(), node: z.string() });
const anObject = <Type>() => z.custom<Type>((value) => typeof value === 'object' && value !== null);
const askSchema = z.object({
  askId: z.string(),
  from: z.string(),
  wanted: z.object({ clusters: z.array(z.string()).readonly(), node: z.string() }),
  question: z.object({ selector: anObject<Selector__Output>().optional(), namespace: z.string() }),
});
type Ask = z.infer<typeof askSchema>;
const answerSchema = z.object({
  askId: z.string(),
  from: z.string(),
  answers: z.array(
    z.discriminatedUnion('kind', [
      z.object({ kind: z.literal('found'), node: nodeSchema, containers: z.array(anObject<Container__Output>()) }),
      z.object({ kind: z.literal('unreached'), node: nodeSchema, reason: z.string() }),
    ]),
  ),
  /** In the last one: how many there were, itself included. The bus may lose some. */
  parts: z.number().optional(),
});
type Part = z.infer<typeof answerSchema>;

interface Waiting {
  readonly queue: Answer[];
  /** Replicas that are not done, with the parts that came. */
  readonly silent: Map<string, { came: number; all?: number | undefined }>;
  readonly answered: Set<string>;
  changed: PromiseWithResolvers<void>;
}

const keyOf = ({ cluster, node }: NodeName): string => `${cluster}/${node}`;

const isWanted =
  ({ clusters, node }: Wanted) =>
  (name: NodeName): boolean =>
    (node === '' || node === name.node) && matchesAny(clusters, name.cluster);

export function openLookups(
  links: AgentLinks,
  store: Pick<Store, 'bus' | 'nodes'>,
  { log, replicaTimeoutMs = REPLICA_TIMEOUT_MS }: LookupsOptions,
): Lookups {
  const { bus } = store;
  const waiting = new Map<string, Waiting>();
  const answering = new AbortController();
  const owned = new DisposableStack();
  const heard =
    <Message>(schema: z.ZodType<Message>, take: (message: Message) => void) =>
    (text: string) => {
      const parsed = schema.safeParse(parseJson(text));
      if (parsed.success) take(parsed.data);
      else log.warn('message of another replica not understood');
    };
  owned.use(
    bus.subscribe(
      'ask',
      heard(askSchema, (ask) => {
        if (ask.from === bus.replicaId) return;
        answer(ask, { links, store, signal: answering.signal }).catch((error: unknown) =>
          log.warn({ error: explain(error) }, 'lookup of another replica not answered'),
        );
      }),
    ),
  );
  owned.use(
    bus.subscribe(
      'answer',
      heard(answerSchema, (part) => {
        const one = waiting.get(part.askId);
        if (one !== undefined) take(one, part);
      }),
    ),
  );
  owned.defer(() => answering.abort());

  async function* lookup(wanted: Wanted, question: Question, signal: AbortSignal): AsyncIterable<Answer> {
    const others = (await bus.replicas()).filter((replica) => replica !== bus.replicaId);
    if (others.length === 0) {
      yield* links.lookup(isWanted(wanted), question, signal);
      return;
    }
    const askId = uuidv7();
    const one: Waiting = {
      queue: [],
      silent: new Map(others.map((replica) => [replica, { came: 0 }])),
      answered: new Set(),
      changed: Promise.withResolvers(),
    };
    waiting.set(askId, one);
    let late = false;
    const deadline = setTimeout(() => {
      late = true;
      one.changed.resolve();
    }, replicaTimeoutMs);
    const stop = () => one.changed.resolve();
    signal.addEventListener('abort', stop, { once: true });
    try {
      await bus.publish('ask', JSON.stringify({ askId, from: bus.replicaId, wanted, question } satisfies Ask));
      yield* links.lookup(isWanted(wanted), question, signal);
      while (!signal.aborted) {
        yield* one.queue.splice(0);
        if (one.queue.length > 0) continue;
        if (one.silent.size === 0 || late) break;
        await one.changed.promise;
        one.changed = Promise.withResolvers();
      }
      if (one.silent.size > 0 && !signal.aborted) yield* missing(one, wanted);
    } finally {
      clearTimeout(deadline);
      signal.removeEventListener('abort', stop);
      waiting.delete(askId);
    }
  }

  /** Agents of replicas that did not answer, or of which a part was lost. */
  async function* missing({ silent, answered }: Waiting, wanted: Wanted): AsyncIterable<Answer> {
    const reason = 'its replica of the controller did not answer in time';
    for await (const { cluster, node, replicaId } of connectedNodes(store))
      if (silent.has(replicaId) && isWanted(wanted)({ cluster, node }) && !answered.has(keyOf({ cluster, node })))
        yield { kind: 'unreached', node: { cluster, node }, reason };
  }

  return { lookup, [Symbol.dispose]: () => owned.dispose() };
}

function take(one: Waiting, { from, answers, parts }: Part): void {
  const replica = one.silent.get(from);
  if (replica === undefined) return;
  for (const answer of answers) {
    one.answered.add(keyOf(answer.node));
    one.queue.push(answer);
  }
  replica.came += 1;
  replica.all ??= parts;
  if (replica.came === replica.all) one.silent.delete(from);
  one.changed.resolve();
}

/** What the agents of this replica say, in parts that the bus carries. Never publishes a last part when it failed on the way. */
async function answer(
  { askId, wanted, question }: Ask,
  parts: { readonly links: AgentLinks; readonly store: Pick<Store, 'bus'>; readonly signal: AbortSignal },
): Promise<void> {
  const { bus } = parts.store;
  let batch: Answer[] = [];
  let chars = 0;
  let published = 0;
  const publish = async (last: boolean) => {
    published += 1;
    const answers = batch;
    batch = [];
    chars = 0;
    const message = { askId, from: bus.replicaId, answers, ...(last ? { parts: published } : {}) };
    await bus.publish('answer', JSON.stringify(message));
  };
  const { selector, namespace } = question;
  const asked: Question = selector === undefined ? { namespace } : { selector, namespace };
  for await (const one of parts.links.lookup(isWanted(wanted), asked, parts.signal)) {
    const size = JSON.stringify(one).length;
    const told: Answer =
      size <= MAX_ANSWER_CHARS
        ? one
        : { kind: 'unreached', node: one.node, reason: 'too many containers fit: ask for a namespace' };
    if (chars > 0 && chars + size > BATCH_CHARS) await publish(false);
    batch.push(told);
    chars += told === one ? size : 0;
  }
  await publish(true);
}

async function* connectedNodes(store: Pick<Store, 'nodes'>) {
  let token: string | undefined;
  do {
    const page = { limit: NODES_PAGE, ...(token === undefined ? {} : { token }) };
    const { rows, next } = await store.nodes({ connectedOnly: true }, page);
    yield* rows;
    token = next;
  } while (token !== undefined);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
