import { chmod, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, type TestContext, test, vi } from 'vitest';
import { findKubectl, kubectlObstacle } from '../../lab/kubectl.ts';
import { agentPod, type LabCluster, type LabKubernetes, startKubernetes } from '../../lab/kubernetes-api.ts';
import { type LabPki, labPki } from '../../lab/pki.ts';
import { Refusal, someCapture, startFakeAgent, wholeCapture } from './fake-agent.ts';
import { PLUGIN, runPlugin } from './plugin.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';

/** A real kubectl, asked by the plugin, asks the lab's API over HTTPS; exec comes back to the real `exhibit` and a fake agent. */

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const kubectl = findKubectl();
const CLUSTER = {
  pods: [
    { namespace: 'prod', name: 'web-0', node: 'n1', labels: { app: 'web' } },
    { namespace: 'prod', name: 'web-1', node: 'n2', labels: { app: 'web' } },
    { namespace: 'prod', name: 'new-0', phase: 'Pending' },
    { namespace: 'shop', name: 'cart-0', node: 'n1', labels: { app: 'cart' } },
    agentPod('exhibit-a', 'n1'),
    agentPod('exhibit-b', 'n2', { isReady: false }),
  ],
  nodes: { n1: 'True', n2: 'Unknown' },
  deployments: { 'prod/web': { app: 'web' }, 'shop/cart': { app: 'cart' } },
} satisfies LabCluster;

let pki: LabPki;
/** Where exec goes in place of a kubectl that would speak SPDY: to a line with its words. */
let recorder: string;
beforeAll(async () => {
  pki = await labPki();
  recorder = path.join(pki.folder, 'bin');
  await mkdir(recorder);
  const program = path.join(recorder, 'kubectl');
  const real = path.join(kubectl?.folder ?? '', 'kubectl');
  await writeFile(
    program,
    `#!/bin/sh\ncase " $* " in *' exec '*) printf '%s\\n' "$*" ;; *) exec '${real}' "$@" ;; esac\n`,
  );
  await chmod(program, 0o755);
}, TEST_TIMEOUT_MS);
afterAll(async () => await pki[Symbol.asyncDispose]());
beforeEach((context) => {
  if (kubectl === undefined) context.skip(kubectlObstacle);
});

const withWebSocket = (context: TestContext) => {
  if (kubectl?.speaksWebSocket !== true)
    context.skip(`needs kubectl 1.31 or newer: ${kubectl?.version} execs over SPDY`);
};

const envOf = ({ kubeconfig }: LabKubernetes, folder: string) => ({
  KUBECONFIG: kubeconfig,
  HOME: pki.folder,
  PATH: `${folder}:${process.env.PATH ?? ''}`,
});

async function lookUp(args: readonly string[], cluster: LabCluster = CLUSTER) {
  await using kubernetes = await startKubernetes(pki, cluster);
  const ran = await runPlugin(args, { env: envOf(kubernetes, recorder) });
  return { ...ran, asked: kubernetes.asked.filter((one) => /\/(pods|nodes|deployments)/.test(one)) };
}

describe('the look-up by a real kubectl', () => {
  test('finds the agent beside a pod in the namespace of the context', async () => {
    const ran = await lookUp(['capture', 'pod/web-0', '--case', 'IR-7']);
    expect(ran).toMatchObject({
      code: 0,
      stderr: 'kubectl-exhibit: prod/web-0 is on node n1, asking exhibit/exhibit-a\n',
      stdout: 'exec --namespace=exhibit exhibit-a --container=agent -- exhibit capture prod/web-0 --case=IR-7\n',
    });
    expect(ran.asked).toEqual([
      expect.stringContaining('GET /api/v1/namespaces/prod/pods/web-0'),
      expect.stringMatching(
        /^GET \/api\/v1\/namespaces\/exhibit\/pods\?fieldSelector=spec\.nodeName=n1&labelSelector=app/,
      ),
    ]);
  });

  test('takes another context and another namespace', async () => {
    expect((await lookUp(['capture', 'cart-0', '--context', 'other'])).stdout).toContain(
      'exec --namespace=exhibit exhibit-a --container=agent -- exhibit capture shop/cart-0',
    );
    expect((await lookUp(['capture', 'deploy/cart', '-n', 'shop'])).stdout).toContain('exhibit capture shop/cart-0');
  });

  test('finds the pods of a deployment and of labels, and says which they are', async () => {
    for (const target of [['deploy/web'], ['-l', 'app=web'], ['deployments.apps/web']]) {
      const ran = await lookUp(['capture', ...target]);
      expect(ran.code).toBe(2);
      expect(ran.stderr).toContain('2 pods fit');
      expect(ran.stderr).toContain('  prod/web-0  Running  node n1\n  prod/web-1  Running  node n2\n');
    }
  });

  test('warns of a node that is not ready, and goes on', async () => {
    const ran = await lookUp(['captures', 'web-1']);
    expect(ran.code).toBe(0);
    expect(ran.stderr).toContain('the node n2 is not ready: its kubelet may not answer\n');
    expect(ran.stdout).toContain('exhibit-b --container=agent -- exhibit captures');
  });

  test.each<[string, readonly string[], Partial<LabCluster>, RegExp]>([
    [
      'no such pod',
      ['capture', 'gone-0'],
      {},
      /NotFound[\s\S]*the pod gone-0 cannot be looked up, for the reason above/,
    ],
    ['no node yet', ['capture', 'new-0'], {}, /prod\/new-0 is Pending and has no node yet/],
    ['no rights', ['capture', 'web-0'], { forbidden: ['get pods'] }, /Forbidden[\s\S]*needs the right to get pods/],
    [
      'no right to list agents',
      ['capture', 'web-0'],
      { forbidden: ['list pods'] },
      /Forbidden[\s\S]*agents in namespace exhibit cannot be listed/,
    ],
    ['no agent', ['capture', 'web-0'], { pods: CLUSTER.pods.slice(0, 4) }, /no agent runs there in namespace exhibit/],
  ])('says it where there is %s', async (_, args, change, words) => {
    const ran = await lookUp(args, { ...CLUSTER, ...change });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(words);
    expect(ran.stdout).toBe('');
  });

  test('is found by kubectl itself as a plugin', async () => {
    await using kubernetes = await startKubernetes(pki, CLUSTER);
    const env = envOf(kubernetes, `${recorder}:${path.dirname(PLUGIN)}`);
    const ran = await shell('kubectl exhibit capture pod/web-0 -n prod', { env });
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).toContain('exhibit capture prod/web-0');
  });
});

describe('the whole hop', () => {
  const hop = async (
    args: readonly string[],
    script: Parameters<typeof startFakeAgent>[0],
    change: Partial<LabCluster> = {},
  ) => {
    await using agent = await startFakeAgent(script);
    const pods: string[] = [];
    await using kubernetes = await startKubernetes(pki, {
      ...CLUSTER,
      exec: async ([program, ...words], pod) => {
        pods.push(`${pod}: ${program}`);
        const ran = await exhibit(words, { env: { EXHIBIT_SOCKET: agent.socket } });
        return { stdout: ran.stdout.toString(), stderr: ran.stderr, code: Number(ran.code) };
      },
      ...change,
    });
    const ran = await runPlugin(args, { env: envOf(kubernetes, kubectl?.folder ?? '') });
    return { ...ran, pods, requests: agent.requests };
  };

  test('captures, with the words that were given, and shows the result', async (context) => {
    withWebSocket(context);
    const ran = await hop(['capture', 'pod/web-0', '-c', 'app', '--reason', `it's "odd" $(id)`, '--case', 'IR 7'], {
      events: () => wholeCapture(someCapture()),
    });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toMatch(/^capture {2}019cab12[\s\S]*outcome {2}complete\n/);
    expect(ran.stderr).toContain('memory: captured, 4.99 MiB stored in 1.2 s, paused 42 ms');
    expect(ran.pods).toEqual(['exhibit-a: exhibit']);
    expect(ran.requests).toEqual([
      {
        call: 'Capture',
        message: expect.objectContaining({
          selector: expect.objectContaining({ pod: { namespace: 'prod', pod: 'web-0', container: 'app' } }),
          reason: `it's "odd" $(id)`,
          caseId: 'IR 7',
        }),
      },
    ]);
  });

  test('comes back with the exit code of exhibit, and its words', async (context) => {
    withWebSocket(context);
    const wrong = await hop(['capture', 'pod/web-0', '--artifacts', 'soul'], {});
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('There is no artifact soul') });
    const failed = await hop(['show', '019c', '--node', 'n1'], {
      capture: new Refusal('capture-not-found', 'no such capture'),
    });
    expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining('exhibit: no such capture') });
    expect(failed.stderr).not.toContain('you may not use kubectl exec');
  });

  test('says which right is missing where exec is forbidden', async (context) => {
    withWebSocket(context);
    const ran = await hop(['capture', 'pod/web-0'], {}, { forbidden: ['create pods/exec'] });
    expect(ran).toMatchObject({ code: 1, pods: [] });
    expect(ran.stderr).toContain(
      'you may not use kubectl exec in namespace exhibit: ask for the right to create pods/exec there',
    );
  });
});
