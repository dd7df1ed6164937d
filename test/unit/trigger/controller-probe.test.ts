import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import tls from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ControllerConfig, controllerSchema } from '../../../agent/trigger/controller-config.ts';
import { tryController } from '../../../agent/trigger/controller-probe.ts';
import type { Files } from '../../../cli/pki/folder.ts';
import { type LabPki, labPki } from '../../lab/pki.ts';
import { type ControllerLab, controllerLab } from '../controller/link/lab.ts';

/** Against the controller's own listener and streams, over TLS. */

const HOUR_MS = 3_600_000;
let lab: ControllerLab;
let other: LabPki;
beforeAll(async () => {
  lab = await controllerLab();
  other = await labPki();
});
afterAll(async () => {
  await lab[Symbol.asyncDispose]();
  await other[Symbol.asyncDispose]();
});

const configOf = ({ certFile, keyFile }: Files, more: Partial<ControllerConfig> = {}) =>
  controllerSchema.parse({
    address: `127.0.0.1:${lab.controller.listener.port}`,
    ...{ certFile, keyFile, caFile: lab.pki.caFile('controller') },
    ...more,
  });
const trial = (config: ControllerConfig) => tryController(config, Date.now(), AbortSignal.timeout(20_000));

describe('a trial of the controller', () => {
  test('says until when both certificates are good, and leaves no connection', async () => {
    const files = await lab.pki.agent('prod', 'n1', 3);
    const found = await trial(configOf(files));
    expect(found).toEqual({
      ownUntilMs: files.notAfter.getTime(),
      controllerUntilMs: lab.pki.server.notAfter.getTime(),
    });
    expect((await trial(configOf(files, { serverName: 'localhost' }))).why).toBeUndefined();
    await expect.poll(() => lab.controller.listener.connectionCount()).toBe(0);
  });

  test('tells what of the own certificate the controller does not take', async () => {
    const expired = { notBefore: new Date(Date.now() - 2 * HOUR_MS), notAfter: new Date(Date.now() - HOUR_MS) };
    const uris = { names: [{ uri: 'spiffe://exhibit/cluster/prod/node/n1' }] } as const;
    const old = await lab.pki.issue({ ...uris, ...expired }, await lab.pki.pair('agents'));
    expect(await trial(configOf(old))).toMatchObject({
      why: expect.stringMatching(/expired at .*; renew it/),
      ownUntilMs: old.notAfter.getTime(),
    });
    const stranger = await other.agent('prod', 'n1');
    expect((await trial(configOf(stranger))).why).toContain("does not take the agent's certificate");
    const operator = await lab.pki.operator('alice');
    expect((await trial(configOf(operator))).why).toContain("does not take the agent's certificate");
  });

  test('tells what is wrong with the controller', async () => {
    const files = await lab.pki.agent('prod', 'n1');
    const authority = await trial(configOf(files, { caFile: other.caFile('controller') }));
    expect(authority.why).toMatch(/^The controller shows a certificate of another authority/);
    const name = await trial(configOf(files, { serverName: 'elsewhere.example' }));
    expect(name.why).toMatch(/^The certificate of the controller has another name/);
  });

  test.each([
    [
      'has expired',
      -2,
      -1,
      "The certificate of the controller has expired by this node's clock; renew it there, or set",
    ],
    [
      'is not valid yet',
      1,
      2,
      "The certificate of the controller is not valid yet by this node's clock: set the clock",
    ],
  ])('tells that the certificate of the controller %s', async (_what, fromHours, toHours, words) => {
    const files = await lab.pki.agent('prod', 'n1');
    const at = (hours: number) => new Date(Date.now() + hours * HOUR_MS);
    const names = [{ dns: 'localhost' }] as const;
    const times = { notBefore: at(fromHours), notAfter: at(toHours) };
    const old = await lab.pki.issue({ usage: 'server', names, ...times }, await lab.pki.pair('controller'));
    // The controller itself never serves one that has.
    const server = tls.createServer({ cert: readFileSync(old.certFile), key: readFileSync(old.keyFile) });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const expired = { address: `127.0.0.1:${port}`, serverName: 'localhost' };
    expect((await trial(configOf(files, expired))).why).toContain(words);
    server.close();
  });

  test('does not wait for one that is down, nor for one that says nothing', async () => {
    const files = await lab.pki.agent('prod', 'n1');
    expect((await trial(configOf(files, { address: '127.0.0.1:1' }))).why).toMatch(/cannot be reached.*ECONNREFUSED/);
    const silent = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    const address = silent.address();
    const port = typeof address === 'object' ? address?.port : 0;
    const config = configOf(files, { address: `127.0.0.1:${port}` });
    const over = new AbortController();
    silent.once('connection', () => over.abort());
    expect((await tryController(config, Date.now(), over.signal)).why).toBe('The controller does not answer');
    silent.close();
  });
});
