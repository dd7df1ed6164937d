import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { packageVersion } from '../../../cli/version.ts';
import { loadController } from '../../../proto/load.ts';
import { type LabPki, labPki } from '../../lab/pki.ts';
import { startRawServer } from '../../lab/recorded-call.ts';
import { laterTypes } from '../../lab/recorded-descriptor.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

let pki: LabPki;
beforeAll(async () => {
  pki = await labPki();
});
afterAll(() => pki[Symbol.asyncDispose]());

/** `exhibit nodes` of a controller of that version, with an agent of each of these. */
async function nodes(controllerVersion: string, agents: readonly string[], ...argv: string[]) {
  const pair = { private_key: readFileSync(pki.server.keyFile), cert_chain: readFileSync(pki.server.certFile) };
  const list = agents.map((version, at) => ({ cluster: 'c', node: `n${at}`, connected: true, agent_version: version }));
  const answer = { nodes: list, controller_version: controllerVersion };
  await using server = await startRawServer({
    ...{ services: [loadController().Controller.service], address: '127.0.0.1:0' },
    credentials: grpc.ServerCredentials.createSsl(null, [pair], false),
    onCall(call) {
      call.write(laterTypes().encode('exhibit.controller.v1.ListNodesResponse', answer));
      call.end();
    },
  });
  const where = ['--controller', `localhost:${server.port}`, '--ca', pki.caFile('controller')];
  const { code, stdout, stderr } = await exhibit([...where, 'nodes', ...argv]);
  expect(code, stderr).toBe(0);
  return `${stdout}`;
}

const minor = (by: number): string => {
  const [major = '0', own = '0'] = packageVersion().split('.');
  return `${major}.${Number(own) + by}.0`;
};

describe('the list of nodes', () => {
  test('says nothing of versions that go together', async () => {
    const printed = await nodes(minor(1), [minor(0), minor(1), minor(2), 'main-3f2a']);
    expect(printed).toContain('main-3f2a');
    expect(printed).not.toContain('apart');
  });

  test('warns once for each version of agents that is too far away, and of its own', async () => {
    const printed = await nodes(minor(4), [minor(1), minor(1), minor(4), minor(6)]);
    const own = packageVersion();
    expect(printed.split('\n\n')[1]).toBe(
      `2 nodes: the agent is ${minor(1)} and the controller ${minor(4)}, more than one minor version apart: update the agent.\n` +
        `1 node: the controller is ${minor(4)} and the agent ${minor(6)}, more than one minor version apart: update the controller.\n` +
        `Here: the program is ${own} and the controller ${minor(4)}, more than one minor version apart: update the program.\n` +
        'See docs/compatibility.md.\n',
    );
  });

  test('has it in JSON for each node, and null for a controller that does not say', async () => {
    const some = JSON.parse(await nodes(minor(1), [minor(0), minor(3)], '--json')) as object;
    expect(some).toMatchObject({ controllerVersion: minor(1), nodes: [{ skew: 'near' }, { skew: 'far' }] });
    const older = JSON.parse(await nodes('', [minor(0)], '--json')) as object;
    expect(older).toMatchObject({ controllerVersion: null, nodes: [{ skew: 'unknown' }] });
  });
});
