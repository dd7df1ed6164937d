import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { agentPod, type LabCluster, startKubernetes } from '../../lab/kubernetes-api.ts';
import { type LabPki, labPki } from '../../lab/pki.ts';
import { Refusal, someCapture, startFakeAgent, wholeCapture } from './fake-agent.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const WORDS = 'There is no pod prod/web-0 on this node. Running here: prod/db-0/app';
const missing = async function* () {
  yield* [];
  throw new Refusal('target-not-found', WORDS);
};

const CLUSTER: LabCluster = {
  pods: [
    { namespace: 'prod', name: 'web-0', node: 'ip-10-0-1-7', labels: { app: 'web' } },
    { namespace: 'prod', name: 'web-1', node: 'ip-10-0-1-8', labels: { app: 'web' } },
    { namespace: 'prod', name: 'lone-0', node: 'ip-10-0-1-9' },
    { namespace: 'prod', name: 'new-0', phase: 'Pending' },
    { namespace: 'prod', name: 'job-0', node: 'ip-10-0-1-7', phase: 'Failed' },
    { namespace: 'prod', name: 'here-0', node: 'ip-10-0-1-1', phase: 'Pending', labels: { app: 'here' } },
    agentPod('exhibit-own', 'ip-10-0-1-1'),
    agentPod('exhibit-x7k2p', 'ip-10-0-1-7'),
    agentPod('exhibit-later', 'ip-10-0-1-8', { phase: 'Pending' }),
    {
      namespace: 'exhibit',
      name: 'controller-0',
      node: 'ip-10-0-1-9',
      labels: { 'app.kubernetes.io/name': 'exhibit' },
    },
  ],
};

let pki: LabPki;
beforeAll(async () => {
  pki = await labPki();
}, TEST_TIMEOUT_MS);
afterAll(async () => await pki[Symbol.asyncDispose]());

async function capture(args: readonly string[], cluster: LabCluster = CLUSTER, env: Record<string, string> = {}) {
  await using kubernetes = await startKubernetes(pki, cluster);
  await using agent = await startFakeAgent({ events: missing });
  const ran = await exhibit(['capture', ...args], {
    env: { EXHIBIT_SOCKET: agent.socket, HOSTNAME: 'exhibit-own', ...kubernetes.podEnv, ...env },
  });
  return { code: ran.code, lines: ran.stderr.split('\n'), stdout: ran.stdout.length, asked: kubernetes.asked };
}

describe('a pod of another node', () => {
  test('ends with its node and the whole command for the agent there, from two questions to the API', async () => {
    const { code, lines, asked } = await capture(['prod/web-0', '--case', 'IR-7', '--reason', `it's "odd" $(id)`]);
    expect(code).toBe(1);
    expect(lines).toEqual([
      'exhibit: prod/web-0 runs on node ip-10-0-1-7: kubectl -n exhibit exec exhibit-x7k2p -c agent -- ' +
        `exhibit capture prod/web-0 --case IR-7 --reason 'it'\\''s "odd" $(id)'`,
      `  Here: ${WORDS}`,
      '',
    ]);
    expect(asked).toEqual([
      'GET /api/v1/namespaces/prod/pods/web-0',
      'GET /api/v1/namespaces/exhibit/pods?labelSelector=app.kubernetes.io/name=exhibit,app.kubernetes.io/component=agent' +
        '&fieldSelector=spec.nodeName=ip-10-0-1-7&limit=5',
    ]);
  });

  test('gives a command that a shell reads back to the same words, whatever they hold', async () => {
    const words = ['prod/web-0', '--reason', "a'b\\c\n\x1b[2J\u202e\u{1f600} *", '--case', ''];
    const { lines } = await capture(words);
    const command = /runs on node ip-10-0-1-7: kubectl (.*)$/.exec(lines[0] ?? '')?.[1];
    const back = await shell(`printf '%s\\0' ${command}`, { env: { LC_ALL: 'C.UTF-8' } });
    expect(back.stdout.toString().split('\0')).toEqual([
      ...['-n', 'exhibit', 'exec', 'exhibit-x7k2p', '-c', 'agent', '--', 'exhibit', 'capture'],
      ...words,
      '',
    ]);
  });

  test('keeps the code of the error with --json', async () => {
    const { lines } = await capture(['prod/web-0', '--json']);
    const { error } = JSON.parse(lines[0] ?? '');
    expect(error.code).toBe('target-not-found');
    expect(error.message).toContain('exec exhibit-x7k2p -c agent -- exhibit capture prod/web-0 --json');
    expect(error.message).toContain(WORDS);
  });

  test.each([
    [
      'without an agent',
      'prod/lone-0',
      /lone-0 runs on node ip-10-0-1-9, and no agent runs there: see `kubectl -n exhibit get/,
    ],
    [
      'whose agent starts',
      'prod/web-1',
      /on node ip-10-0-1-8, where the agent exhibit-later is not running yet: see `kubectl/,
    ],
    ['that ended', 'prod/job-0', /job-0 is Failed, on node ip-10-0-1-7: kubectl -n exhibit exec exhibit-x7k2p/],
  ])('%s is said to be so', async (_, target, words) => {
    const { lines } = await capture([target]);
    expect(lines[0]).toMatch(words);
    expect(lines[1]).toBe(`  Here: ${WORDS}`);
  });

  test.each([
    [
      'that nobody knows',
      'prod/gone-0',
      '  Kubernetes knows no such pod either: look with `kubectl get pods`, or with `exhibit containers`.',
    ],
    ['without a node', 'prod/new-0', '  prod/new-0 is Pending and has no node yet: nothing of it runs.'],
    ['of this very node', 'prod/here-0', '  Kubernetes has prod/here-0 on this very node, and calls it Pending.'],
  ])('%s leaves the agent its first word', async (_, target, words) => {
    expect((await capture([target])).lines).toEqual([`exhibit: ${WORDS}`, words, '']);
  });

  test('is asked for by labels as well, with a command for each that fits', async () => {
    const { lines, asked } = await capture(['app=web:app', '--detach']);
    expect(lines).toEqual([
      'exhibit: prod/web-0 runs on node ip-10-0-1-7: kubectl -n exhibit exec exhibit-x7k2p -c agent -- exhibit capture prod/web-0/app --detach',
      expect.stringMatching(/^ {2}prod\/web-1 runs on node ip-10-0-1-8, where the agent exhibit-later/),
      `  Here: ${WORDS}`,
      '',
    ]);
    expect(asked[0]).toBe('GET /api/v1/pods?labelSelector=app=web&limit=5');
    expect(asked).toHaveLength(3);
  });

  test('is one of five at most, and that there are more is said', async () => {
    const pods = Array.from({ length: 9 }, (_, at) => ({
      namespace: 'prod',
      name: `web-${at}`,
      node: `n${at}`,
      labels: { app: 'web' },
    }));
    const { lines, asked } = await capture(['app=web'], { pods });
    expect(lines.filter((line) => line.includes('runs on node'))).toHaveLength(5);
    expect(lines[5]).toBe('  There are more: narrow it, or name one pod.');
    expect(asked).toHaveLength(6);
  });
});

describe('what Kubernetes is not asked', () => {
  test.each([
    ['for a process', ['pid:4711'], {}],
    ['for a container id', ['0123456789ab'], {}],
    ['outside of a pod', ['prod/web-0'], { KUBERNETES_SERVICE_HOST: '' }],
    ['without a service account', ['prod/web-0'], { EXHIBIT_SERVICE_ACCOUNT: '/nonexistent' }],
    ['where the variable is no host', ['prod/web-0'], { KUBERNETES_SERVICE_HOST: 'a b/../c' }],
  ])('%s leaves the error as it was', async (_, args, env) => {
    const { lines, asked } = await capture(args, CLUSTER, env);
    expect(lines).toEqual([`exhibit: ${WORDS}`, '']);
    expect(asked).toEqual([]);
  });

  test('is anything when the capture begins', async () => {
    await using kubernetes = await startKubernetes(pki, CLUSTER);
    await using agent = await startFakeAgent({ events: () => wholeCapture(someCapture()) });
    const env = { EXHIBIT_SOCKET: agent.socket, ...kubernetes.podEnv };
    expect((await exhibit(['capture', 'prod/web-0'], { env })).code).toBe(0);
    expect(kubernetes.asked).toEqual([]);
  });
});

describe('an API that does not help', () => {
  const instead = (answer: (request: IncomingMessage, response: ServerResponse) => void): LabCluster => ({
    pods: [],
    instead: answer,
  });
  const document = (value: unknown) => instead((_, response) => void response.end(JSON.stringify(value)));
  const web = {
    metadata: { namespace: 'prod', name: 'web-0' },
    spec: { nodeName: 'n1' },
    status: { phase: 'Running' },
  };

  test.each<[string, LabCluster, RegExp]>([
    [
      'forbids to get pods',
      { ...CLUSTER, forbidden: ['get pods'] },
      /service account may not get pods in namespace prod \(docs/,
    ],
    [
      'does not know the token',
      instead((_, response) => void response.writeHead(401).end()),
      /does not take this agent's/,
    ],
    ['is out of order', instead((_, response) => void response.writeHead(503).end('x')), /answered with status 503/],
    [
      'sends us elsewhere',
      instead((_, response) => void response.writeHead(302, { location: 'https://evil.example/' }).end()),
      /answered with status 302/,
    ],
    ['hangs up', instead((request) => void request.socket.destroy()), /cannot be reached/],
    [
      'hangs up in the middle',
      instead((request, response) => {
        response.writeHead(200, { 'content-length': '1000' });
        response.write('{"metadata":', () => request.socket.destroy());
      }),
      /cannot be reached|the middle/,
    ],
    ['answers no JSON', instead((_, response) => void response.end('<html>')), /answers what is no JSON/],
    ['answers a maze', instead((_, response) => void response.end('['.repeat(1_000_000))), /answers what is no JSON/],
    ['answers something else', document({ kind: 'Status' }), /something else than was asked/],
    [
      'answers about another pod',
      document({ ...web, metadata: { namespace: 'prod', name: 'web-1' } }),
      /something else/,
    ],
    ['answers a node that is a command', document({ ...web, spec: { nodeName: 'n1;id' } }), /something else/],
    ['answers a phase that is a screen', document({ ...web, status: { phase: '\x1b[2J' } }), /something else/],
    [
      'answers for ever',
      instead((_, response) => {
        const more = () => {
          while (!response.destroyed && response.write('x'.repeat(65_536)));
        };
        response.on('drain', more);
        more();
      }),
      /answers more than 8 MiB/,
    ],
    [
      'has headers for ever',
      instead((_, response) => void response.setHeader('x', 'y'.repeat(99_999)).end()),
      /cannot be reached/,
    ],
  ])('because it %s costs one sentence, and the agent keeps the first', async (_, cluster, words) => {
    const { code, lines } = await capture(['prod/web-0'], cluster);
    expect(code).toBe(1);
    expect(lines).toHaveLength(3);
    expect(lines[0]).toBe(`exhibit: ${WORDS}`);
    expect(lines[1]).toMatch(/^ {2}Whether it runs on another node cannot be said: /);
    expect(lines[1]).toMatch(words);
  });

  test('because it does not answer is waited for no longer than five seconds', async () => {
    const { lines } = await capture(
      ['prod/web-0'],
      instead(() => undefined),
    );
    expect(lines[1]).toMatch(/did not answer within 5 s/);
  });

  test('because it forbids to list agents still says the node', async () => {
    const { lines } = await capture(['prod/web-0'], { ...CLUSTER, forbidden: ['list pods'] });
    expect(lines[0]).toMatch(
      /prod\/web-0 runs on node ip-10-0-1-7; which agent is there cannot be said: .* may not list pods in namespace exhibit/,
    );
    expect(lines[1]).toBe(`  Here: ${WORDS}`);
  });

  test('because labels need a right that it does not give says which', async () => {
    const { lines } = await capture(['app=web'], { ...CLUSTER, forbidden: ['list pods'] });
    expect(lines[1]).toMatch(/may not list the pods of all namespaces/);
  });

  test('because its certificate is of a stranger gets no token', async () => {
    await using other = await labPki();
    await using kubernetes = await startKubernetes(pki, CLUSTER);
    await using strange = await startKubernetes(other, CLUSTER);
    await using agent = await startFakeAgent({ events: missing });
    const env = { EXHIBIT_SOCKET: agent.socket, ...kubernetes.podEnv, KUBERNETES_SERVICE_PORT: String(strange.port) };
    const ran = await exhibit(['capture', 'prod/web-0'], { env });
    expect(ran.stderr).toMatch(/cannot be reached \(.*(certificate|issuer|signature)/i);
    expect(strange.asked).toEqual([]);
  });

  test('because nobody listens is said', async () => {
    const { lines } = await capture(['prod/web-0'], CLUSTER, { KUBERNETES_SERVICE_PORT: '1' });
    expect(lines[1]).toMatch(/the Kubernetes API on https:\/\/127\.0\.0\.1:1 cannot be reached \(.*ECONNREFUSED/);
  });
});
