import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Api } from '../../../../controller/api/api.ts';
import { ExhibitError } from '../../../../evidence/error.ts';
import { type FakeApi, fakeApi } from '../../../lab/fake-api.ts';
import { type HttpLab, startHttpLab, TOKEN } from '../../../lab/http-controller.ts';

/** Over TLS, by curl. */

let lab: HttpLab;
let fake: FakeApi;

beforeAll(async () => {
  fake = fakeApi();
  lab = await startHttpLab({ api: fake.api });
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
});
beforeEach(() => {
  fake.calls.length = 0;
  fake.created.length = 0;
});

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: unknown;
}

/** With the operator's token unless `args` bring something else. */
async function ask(route: string, ...args: string[]): Promise<Answer> {
  const credentials = args.includes('--anonymous') ? [] : ['--header', `authorization: Bearer ${TOKEN}`];
  const rest = args.filter((arg) => arg !== '--anonymous');
  const { code, text } = await lab.curl('--include', ...credentials, ...rest, lab.url(route));
  expect(code).toBe(0);
  const [head = '', ...body] = text.split('\r\n\r\n');
  const [line = '', ...lines] = head.split('\r\n');
  const headers = Object.fromEntries(
    lines.map((one) => [one.split(': ')[0]?.toLowerCase(), one.split(': ').slice(1).join(': ')]),
  );
  const content = body.join('\r\n\r\n');
  return { status: Number(line.split(' ')[1]), headers, body: content === '' ? undefined : parsed(content) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const post = (value: unknown): string[] => [
  '--header',
  'content-type: application/json',
  '--data',
  typeof value === 'string' ? value : JSON.stringify(value),
];

describe('the JSON form of the API', () => {
  test('hands a request over as gRPC would, every field there', async () => {
    const answer = await ask(
      '/v1/captures',
      ...post({ target: 'shop/web-0', clusters: ['prod'], caseId: 'c1', maxTargets: 3 }),
    );
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      captures: [{ cluster: 'prod', state: 'queued', createdAtMs: '1700000000000', sentAtMs: '0' }],
    });
    expect(fake.created).toEqual([
      {
        requestId: '',
        clusters: ['prod'],
        node: '',
        namespace: '',
        artifacts: [],
        consistency: '',
        scope: '',
        sinks: [],
        caseId: 'c1',
        reason: '',
        exhibitNumber: '',
        acquirer: '',
        maxTargets: 3,
        dryRun: false,
        force: false,
        selector: { by: 'pod', pod: { namespace: 'shop', pod: 'web-0', container: '' } },
      },
    ]);
    expect(fake.calls[0]?.context.caller).toMatchObject({ name: 'https://issuer#tester', by: 'oidc' });
  });

  test('takes a selector as a message too, but not both', async () => {
    const selector = { labels: { labels: { app: 'web' } } };
    expect((await ask('/v1/captures', ...post({ selector }))).status).toBe(200);
    expect(fake.created[0]?.selector).toMatchObject({
      by: 'labels',
      labels: { labels: { app: 'web' }, container: '' },
    });
    expect((await ask('/v1/captures', ...post({ selector, target: 'shop/web-0' }))).status).toBe(400);
    expect((await ask('/v1/captures', ...post({ selector: { pid: 1, unit: 'a.service' } }))).status).toBe(400);
    expect((await ask('/v1/captures', ...post({ target: 'nonsense' }))).body).toMatchObject({
      error: { code: 'usage' },
    });
    expect(fake.created).toHaveLength(1);
  });

  test('reads lists, numbers, truth and pairs out of a query', async () => {
    await ask('/v1/captures?states=queued&states=sent&sinceMs=1700000000000&pageSize=5');
    await ask('/v1/nodes?connectedOnly=true');
    await ask('/v1/containers?labels=app=web&labels=eq=a=b&clusters=prod');
    expect(fake.calls.map(({ request }) => request)).toMatchObject([
      { states: ['queued', 'sent'], sinceMs: '1700000000000', pageSize: 5 },
      { connectedOnly: true, pageSize: 0 },
      { labels: { app: 'web', eq: 'a=b' }, clusters: ['prod'] },
    ]);
  });

  test.each([
    ['GET', '/v1/captures/abc', 'GetCapture', { captureId: 'abc' }],
    ['POST', '/v1/captures/abc/cancel', 'CancelCapture', { captureId: 'abc' }],
    ['POST', '/v1/captures/abc/approve', 'ApproveCapture', { captureId: 'abc' }],
    ['POST', '/v1/captures/abc/deny', 'DenyCapture', { captureId: 'abc', reason: '' }],
    ['GET', '/v1/cases', 'ListCases', { state: '' }],
    ['GET', '/v1/custody?captureId=abc&afterSeq=7', 'ListCustody', { captureId: 'abc', afterSeq: '7' }],
    ['GET', '/v1/whoami', 'WhoAmI', {}],
  ])('%s %s is %s', async (method, route, call, request) => {
    expect((await ask(route, '--request', method)).status).toBe(200);
    expect(fake.calls).toMatchObject([{ call, request }]);
  });

  test('opens, notes, shows and closes a case', async () => {
    expect((await ask('/v1/cases', ...post({ caseId: 'c1', title: 'Wörter' }))).body).toMatchObject({
      caseId: 'c1',
      title: 'Wörter',
    });
    expect((await ask('/v1/cases/c1/notes', ...post({ text: 'seen' }))).body).toMatchObject({
      notes: [{ text: 'seen' }],
    });
    expect((await ask('/v1/cases/c1')).body).toMatchObject({ state: 'open', closedAtMs: '0' });
    expect((await ask('/v1/cases/c1/close', ...post({ text: 'done' }))).body).toMatchObject({ state: 'closed' });
    const missing = await ask('/v1/cases/c2');
    expect(missing).toMatchObject({
      status: 404,
      body: { error: { code: 'case-not-found', message: 'There is no case c2' } },
    });
  });

  test('knows a caller by the certificate of the connection', async () => {
    expect((await ask('/v1/whoami', '--anonymous', ...lab.asAlice)).body).toMatchObject({
      name: 'alice',
      by: 'certificate',
    });
  });

  test('lets nobody else in, and reads no body of theirs', async () => {
    const answer = await ask('/v1/captures', '--anonymous', ...post('{broken'));
    expect(answer).toMatchObject({
      status: 401,
      headers: { 'www-authenticate': 'Bearer realm="exhibit"' },
      body: { error: { code: 'unauthenticated' } },
    });
    expect(fake.calls).toEqual([]);
  });

  test('tells of the service and of itself without a name', async () => {
    expect((await ask('/healthz', '--anonymous')).body).toEqual({ status: 'ok' });
    expect((await ask('/v1/openapi.json', '--anonymous')).body).toMatchObject({ openapi: '3.1.0' });
  });

  test('streams a watch as server-sent events until it ends', async () => {
    const { text } = await lab.curl(
      '--no-buffer',
      '--header',
      `authorization: Bearer ${TOKEN}`,
      lab.url('/v1/captures/abc/watch'),
    );
    const events = text
      .split('\n\n')
      .filter((event) => event !== '')
      .map((event) => event.split('\n'));
    expect(events.map(([name]) => name)).toEqual(['event: update', 'event: update', 'event: end']);
    expect(JSON.parse(events[0]?.[1]?.slice('data: '.length) ?? '')).toMatchObject({
      bytesPerSecond: '1024',
      remainingMs: '5000',
      capture: { state: 'running' },
    });
  });
});

describe('a watch', () => {
  const watch = async (updates: Api['WatchCapture']): Promise<string> => {
    await using one = await startHttpLab({ api: fakeApi({ WatchCapture: updates }).api });
    const { text } = await one.curl(
      '--include',
      '--header',
      `authorization: Bearer ${TOKEN}`,
      one.url('/v1/captures/a/watch'),
    );
    return text;
  };

  test('of a capture that is not there is a plain error', async () => {
    const text = await watch(async function* () {
      yield* [];
      throw new ExhibitError('capture-not-found', 'There is no capture a');
    });
    expect(text).toMatch(/^HTTP\/1.1 404 /);
    expect(text).toContain('"capture-not-found"');
  });

  test('that fails on its way says so in its last event', async () => {
    const text = await watch(async function* () {
      yield { capture: { captureId: 'a', state: 'running' } };
      throw new ExhibitError('store-failed', 'The store is away');
    });
    expect(text).toMatch(/^HTTP\/1.1 200 /);
    expect(text).toContain('event: error\ndata: {"error":{"code":"store-failed","message":"The store is away"}}');
  });
});

describe('what the JSON form refuses', () => {
  test.each([
    ['a field that is not there', { target: 'a/b', evil: 1 }, 'has no field \\"evil\\"'],
    ['a number for a word', { target: 'a/b', reason: 5 }, 'must be string'],
    ['a word for a number', { target: 'a/b', maxTargets: '5' }, 'must be integer'],
    ['a negative number', { target: 'a/b', maxTargets: -1 }, 'must be >= 0'],
    ['null', null, 'must be object'],
    ['a list', [], 'must be object'],
    ['a prototype', '{"__proto__": {"x": 1}}', 'not JSON'],
    ['a constructor', '{"constructor": {"prototype": {"x": 1}}}', 'not JSON'],
    ['garbage', '{"a"', 'not JSON'],
    ['nothing', '""', 'must be object'],
    ['deep nesting', '['.repeat(40), 'deeper than 32'],
    ['deep nesting to the bound of the body', `${'['.repeat(30_000)}${']'.repeat(30_000)}`, 'deeper than 32'],
  ])('%s', async (_what, body, words) => {
    const answer = await ask('/v1/captures', ...post(body === null ? 'null' : body));
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ error: { code: 'usage' } });
    expect(JSON.stringify(answer.body)).toContain(words);
    expect(fake.calls).toEqual([]);
  });

  test.each([
    ['/v1/captures?pageSize=-1', 400],
    ['/v1/captures?pageSize=many', 400],
    ['/v1/captures?sinceMs=99999999999999999999', 400],
    ['/v1/captures?strange=1', 400],
    ['/v1/captures?__proto__=1', 400],
    ['/v1/captures/%ff', 400],
    ['/v1/nothing', 404],
    ['/', 404],
    [`/v1/captures/${'a'.repeat(300)}`, 400],
  ])('%s', async (route, status) => {
    const answer = await ask(route);
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ error: { code: 'usage' } });
    expect(fake.calls).toEqual([]);
  });

  test('another method, with those that there are', async () => {
    const deleted = await ask('/v1/captures', '--request', 'DELETE');
    expect(deleted).toMatchObject({
      status: 405,
      headers: { allow: 'POST, GET, HEAD, OPTIONS' },
      body: { error: { code: 'usage' } },
    });
    const options = await ask(
      '/v1/captures/abc/watch',
      '--request',
      'OPTIONS',
      '--header',
      'origin: https://evil.example',
    );
    expect(options).toMatchObject({ status: 204, headers: { allow: 'GET, OPTIONS' } });
    expect(Object.keys(options.headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
  });

  test('HEAD has the headers of GET and no body', async () => {
    const answer = await ask('/v1/whoami', '--head');
    expect(answer).toMatchObject({
      status: 200,
      headers: { 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' },
      body: undefined,
    });
    expect((await ask('/v1/captures/abc/watch', '--head')).status).toBe(405);
  });

  test('another content type, a packed body and one that is too long', async () => {
    const text = await ask('/v1/captures', '--header', 'content-type: text/plain', '--data', '{}');
    expect(text).toMatchObject({ status: 415, body: { error: { code: 'usage' } } });
    const packed = await ask('/v1/captures', ...post({ target: 'a/b' }), '--header', 'content-encoding: gzip');
    expect(packed).toMatchObject({ status: 415, body: { error: { code: 'usage' } } });
    const long = await ask('/v1/captures', ...post({ target: 'a/b', reason: 'x'.repeat(70_000) }));
    expect(long).toMatchObject({ status: 413, body: { error: { code: 'usage' } } });
    expect(fake.calls).toEqual([]);
  });

  test('more than a caller may ask, with the time to wait', async () => {
    await using limited = await startHttpLab({
      api: fakeApi({
        WhoAmI: async () =>
          Promise.reject(new ExhibitError('rate-limited', 'There are too many questions of alice: wait 7 s.')),
      }).api,
    });
    const { text } = await limited.curl(
      '--include',
      '--header',
      `authorization: Bearer ${TOKEN}`,
      limited.url('/v1/whoami'),
    );
    expect(text).toMatch(/^HTTP\/1.1 429 /);
    expect(text.toLowerCase()).toContain('retry-after: 7\r\n');
  });

  test('the inside of a fault of its own', async () => {
    await using broken = await startHttpLab({
      api: fakeApi({ WhoAmI: async () => Promise.reject(new TypeError('secret /etc/path')) }).api,
    });
    const { text } = await broken.curl(
      '--include',
      '--header',
      `authorization: Bearer ${TOKEN}`,
      broken.url('/v1/whoami'),
    );
    expect(text).toMatch(/^HTTP\/1.1 500 /);
    expect(text).not.toContain('secret');
    expect(JSON.parse(text.split('\r\n\r\n')[1] ?? '')).toMatchObject({ error: { code: 'internal' } });
  });
});
