import { describe, expect, test } from 'vitest';
import { pickContainer, pickEnded } from '../../../agent/runtime/pick.ts';
import { asContainerId, type ContainerSummary, type Runtime, type Target } from '../../../agent/runtime/runtime.ts';
import { parseSelector, resolveTarget } from '../../../agent/runtime/select.ts';
import { ExhibitError } from '../../../evidence/error.ts';

const ID = { app: '3f1c'.padEnd(64, '0'), side: '3f2d'.padEnd(64, '0'), old: '9a9a'.padEnd(64, '0') };

function one(given: Partial<Omit<ContainerSummary, 'id'>> & { id: string; name: string }): ContainerSummary {
  return {
    pod: { namespace: 'prod', name: 'web-0', uid: 'u', sandboxId: 's' },
    labels: new Map([['app', 'web']]),
    image: 'web:1',
    state: 'running',
    createdAt: '2026-11-01T00:00:00.000Z',
    ...given,
    id: asContainerId(given.id),
  };
}

const app = one({ id: ID.app, name: 'app' });
const side = one({ id: ID.side, name: 'side' });
const ended = one({ id: ID.old, name: 'app', state: 'exited', finishedAt: '2026-11-02T10:00:00.000Z' });

function pick(text: string, containers: ContainerSummary[], among = pickContainer): string {
  const selector = parseSelector(text);
  if (selector.kind !== 'pod' && selector.kind !== 'container' && selector.kind !== 'labels') throw new Error(text);
  try {
    return among(selector, containers).id;
  } catch (error) {
    if (!(error instanceof ExhibitError)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

describe('picking a container that has ended', () => {
  const of = (text: string, containers: ContainerSummary[]) => pick(text, containers, pickEnded);
  const later = one({ id: ID.app, name: 'app', state: 'exited', finishedAt: '2026-11-02T11:00:00.000Z' });
  const other = one({ id: ID.side, name: 'side', state: 'exited', finishedAt: '2026-11-02T09:00:00.000Z' });

  test('the one that ended last is meant by the name, any by its id', () => {
    expect(of('prod/web-0/app', [ended, later])).toBe(ID.app);
    expect(of('prod/web-0', [later, ended])).toBe(ID.app);
    expect(of('9a9a', [ended, later])).toBe(ID.old);
  });

  test('two of different names are two, and one that never ran is none', () => {
    expect(of('prod/web-0', [ended, other])).toMatch(/^target-ambiguous: .*prod\/web-0\/app, prod\/web-0\/side/);
    expect(of('prod/web-0', [one({ id: ID.app, name: 'app', state: 'created' })])).toMatch(/^target-not-running/);
    expect(of('prod/web-1', [ended])).toMatch(/^target-not-found/);
  });
});

describe('picking a container', () => {
  test('a pod with one container needs no more words', () => {
    expect(pick('prod/web-0', [app])).toBe(ID.app);
  });

  test('two containers and none named: the message is what to type', () => {
    expect(pick('prod/web-0', [app, side])).toBe(
      'target-ambiguous: prod/web-0 fits 2 containers: say which one, prod/web-0/app, prod/web-0/side',
    );
  });

  test('a named container is found among several', () => {
    expect(pick('prod/web-0/side', [app, side])).toBe(ID.side);
    expect(pick('app=web:side', [app, side])).toBe(ID.side);
  });

  test('a container that kubelet restarted is the running one', () => {
    expect(pick('prod/web-0/app', [ended, app])).toBe(ID.app);
  });

  test('an id prefix must be unique, a whole id always is', () => {
    expect(pick('3f1c', [app, side])).toBe(ID.app);
    const twin = one({
      id: ID.app.slice(0, -1).padEnd(64, '1'),
      name: 'twin',
      pod: { namespace: 'x', name: 'y', uid: '', sandboxId: '' },
    });
    expect(pick('3f1c', [app, twin])).toMatch(/^target-ambiguous: .*prod\/web-0\/app, x\/y\/twin/);
    expect(pick(ID.app, [app, twin])).toBe(ID.app);
  });

  test('an exited container says when it ended', () => {
    expect(pick('prod/web-0', [ended])).toMatch(
      /^target-not-running: prod\/web-0\/app .*exited at 2026-11-02T10:00:00.000Z/,
    );
  });

  test('a container that was created and not started is not running', () => {
    expect(pick('prod/web-0', [one({ id: ID.app, name: 'app', state: 'created' })])).toMatch(
      /^target-not-running: .*not started/,
    );
  });

  test('a paused container can be captured', () => {
    expect(pick('prod/web-0', [one({ id: ID.app, name: 'app', state: 'paused' })])).toBe(ID.app);
  });

  test('an unknown pod: what is here, and that another node may have it', () => {
    const message = pick('prod/db-0', [app, side]);
    expect(message).toMatch(/^target-not-found: There is no pod prod\/db-0 on this node/);
    expect(message).toContain('kubectl get pod -n prod db-0 -o wide');
    expect(message).toContain('Running here: prod/web-0/app, prod/web-0/side');
  });

  test('an unknown container of a known pod: those it has', () => {
    expect(pick('prod/web-0/db', [app, side])).toContain('has no container db, only prod/web-0/app, prod/web-0/side');
  });

  test('an empty node says so', () => {
    expect(pick('abcd', [])).toContain('No container runs here');
  });

  test('a thousand candidates do not make a page', () => {
    const many = Array.from({ length: 1000 }, (_, index) =>
      one({ id: index.toString(16).padStart(64, 'f'), name: `c${index}` }),
    );
    expect(pick('prod/web-0', many).length).toBeLessThan(600);
  });

  test('two running containers of one name are told apart by their ids', () => {
    const twin = one({ id: ID.old, name: 'app' });
    expect(pick('prod/web-0/app', [app, twin])).toContain(`${ID.app}, ${ID.old}`);
  });
});

describe('asking several runtimes', () => {
  const target = { record: {}, notes: ['its own'] } as unknown as Target;
  const runtime = (answer: Target | ExhibitError): Runtime =>
    ({
      resolve: async () => {
        if (answer instanceof ExhibitError) throw answer;
        return answer;
      },
    }) as unknown as Runtime;
  const missing = (text: string) => runtime(new ExhibitError('target-not-found', text));
  const silent = runtime(new ExhibitError('runtime-unreachable', 'no socket'));
  const ask = (...runtimes: Runtime[]) => resolveTarget(parseSelector('pid:7'), runtimes, new AbortController().signal);

  test('the first that knows it answers', async () => {
    const knows = runtime(target);
    expect((await ask(missing('one'), knows)).runtime).toBe(knows);
  });

  test('one that was silent is noted on what another found', async () => {
    expect((await ask(silent, runtime(target))).target.notes).toEqual([
      'its own',
      'a runtime could not be asked about this target: no socket',
    ]);
  });

  test('a silent runtime is the error when nobody else knows it, for it may have', async () => {
    await expect(ask(silent, missing('two'))).rejects.toMatchObject({ code: 'runtime-unreachable' });
  });

  test('what is named as a container is refused in the words of the first, a process in those of the last, the host', async () => {
    const runtimes = [missing('one'), missing('two')];
    const pod = resolveTarget(parseSelector('prod/web-0'), runtimes, new AbortController().signal);
    await expect(pod).rejects.toMatchObject({ message: 'one' });
    await expect(ask(...runtimes)).rejects.toMatchObject({ message: 'two' });
  });

  test('an ambiguous target is not looked for elsewhere', async () => {
    const ambiguous = runtime(new ExhibitError('target-ambiguous', 'which'));
    await expect(ask(ambiguous, runtime(target))).rejects.toMatchObject({ code: 'target-ambiguous' });
  });
});
