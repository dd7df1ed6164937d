import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';
import grpc from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type GrpcApi, serveGrpc } from '../../controller/api/grpc.ts';
import { auditedIdentity } from '../../controller/custody/audited-identity.ts';
import { createIdentity } from '../../controller/identity/authenticate.ts';
import { identitySchema } from '../../controller/identity/operators.ts';
import { type Listener, openListener } from '../../controller/tls/tls.ts';
import type { CaptureUpdate__Output } from '../../proto/gen/exhibit/controller/v1/CaptureUpdate.ts';
import { type ApiClient, apiClient, refusal } from '../lab/controller-client.ts';
import { type LabPki, labPki } from '../lab/pki.ts';
import { container, type LabDomain, labDomain, nodeRow, podRequest } from '../unit/controller/lab-domain.ts';

/** The API over gRPC as its callers meet it: real TLS, certificates of a real PKI, a real store; agents that answer from memory. */

const everywhere = (role: string) => [{ role, clusters: ['*'], namespaces: ['*'] }];
const operators = [
  { name: 'Ada', certificate: 'ada', grants: everywhere('admin') },
  { name: 'Rob', certificate: 'rob', grants: [{ role: 'responder', clusters: ['*'], namespaces: ['prod'] }] },
  { name: 'Sue', certificate: 'sue', grants: [{ role: 'responder', clusters: ['*'], namespaces: ['prod'] }] },
  { name: 'Vic', certificate: 'vic', grants: [{ role: 'viewer', clusters: ['*'], namespaces: ['dev'] }] },
];

let pki: LabPki;
let lab: LabDomain;
let served: GrpcApi;
let listener: Listener;
const clients: Partial<Record<string, ApiClient>> = {};
const open: ApiClient[] = [];

beforeAll(async () => {
  const log = pino({ level: 'silent' });
  pki = await labPki();
  lab = await labDomain({
    rules: { approvals: [{ clusters: ['*'], namespaces: ['prod'], expiresMs: 60_000 }], expiresMs: 600_000 },
  });
  lab.agents.set({ cluster: 'east', node: 'n1' }, [
    container('prod', 'web-0', 'app'),
    container('dev', 'web-0', 'app'),
  ]);
  await lab.domain.store.putNode(nodeRow('east', 'n1'));
  const identity = auditedIdentity(createIdentity(identitySchema.parse({ operators }), log), lab.domain.denials);
  served = serveGrpc({ api: lab.api, identity, log });
  const handlers = { h2: (socket: TLSSocket) => served.accept(socket) };
  listener = await openListener({ ...pki.listener('operators'), handlers }, log);
  for (const { certificate } of operators) clients[certificate] = client({ files: await pki.operator(certificate) });
});
afterAll(async () => {
  for (const one of open) one[Symbol.dispose]();
  await served[Symbol.asyncDispose]();
  await listener[Symbol.asyncDispose]();
  await lab[Symbol.asyncDispose]();
  await pki[Symbol.asyncDispose]();
});

function client(options: { files?: { certFile: string; keyFile: string }; authorization?: string }): ApiClient {
  const made = apiClient(`127.0.0.1:${listener.port}`, { caFile: pki.caFile('controller'), ...options });
  open.push(made);
  return made;
}

function as(name: string): ApiClient {
  const found = clients[name];
  if (found === undefined) throw new Error(`there is no client ${name}`);
  return found;
}

const created = async (name: string, namespace: string): Promise<string> => {
  const { captures } = await as(name).call('CreateCapture', podRequest(namespace, 'web-0'));
  return captures[0]?.captureId ?? '';
};

describe('a caller', () => {
  test('is who the certificate says', async () => {
    expect(await as('rob').call('WhoAmI', {})).toEqual({
      name: 'rob',
      by: 'certificate',
      grants: [{ role: 'responder', clusters: ['*'], namespaces: ['prod'] }],
      controllerVersion: '9.9.9',
    });
  });

  test('without a certificate or a token is not let in, and that is written down', async () => {
    expect(await refusal(client({}).call('WhoAmI', {}))).toMatchObject({
      status: 'UNAUTHENTICATED',
      code: 'unauthenticated',
    });
    expect(await refusal(client({ authorization: 'Bearer x' }).call('WhoAmI', {}))).toMatchObject({
      status: 'UNAUTHENTICATED',
    });
    const entries = await lab.domain.store.audit({}, { afterSeq: 0, limit: 100 });
    const mine = entries.filter(({ actor }) => actor === 'unauthenticated');
    expect(mine).toHaveLength(1);
    expect(mine[0]?.action).toBe('access.denied');
    expect(JSON.parse(mine[0]?.details ?? '')).toMatchObject({ peer: '127.0.0.1' });
  });

  test('whom nobody configured hears nothing of those who are known', async () => {
    const stranger = client({ files: await pki.operator('mallory') });
    const refused = await refusal(stranger.call('ListCaptures', {}));
    expect(refused).toMatchObject({ status: 'UNAUTHENTICATED', code: 'unauthenticated' });
    expect(refused.details).not.toMatch(/mallory|ada|rob/);
  });

  test('may ask for health without a name', async () => {
    const Health = grpc.makeGenericClientConstructor(healthService, 'Health');
    const health = new Health(
      `localhost:${listener.port}`,
      grpc.credentials.createSsl(readFileSync(pki.caFile('controller'))),
    );
    const answer = await new Promise((resolve, reject) => {
      health.check?.({ service: '' }, (error: Error | null, value: unknown) =>
        error ? reject(error) : resolve(value),
      );
    });
    health.close();
    expect(answer).toEqual({ status: 'SERVING' });
  });
});

describe('a call', () => {
  test('answers with what the caller may see, and with no other word', async () => {
    const captureId = await created('rob', 'prod');
    expect(await as('rob').call('GetCapture', { captureId: captureId.slice(0, 30) })).toMatchObject({ captureId });
    expect((await as('vic').call('ListCaptures', {})).captures).toEqual([]);
    const hidden = await refusal(as('vic').call('GetCapture', { captureId }));
    const missing = await refusal(as('vic').call('GetCapture', { captureId: '01900000-0000-7000-8000-000000000000' }));
    expect(hidden).toMatchObject({ status: 'NOT_FOUND', code: 'capture-not-found' });
    expect(hidden.details.replace(captureId, 'ID')).toBe(
      missing.details.replace('01900000-0000-7000-8000-000000000000', 'ID'),
    );
  });

  test('that the caller has no right to is forbidden', async () => {
    const refused = await refusal(as('vic').call('CreateCapture', podRequest('dev', 'web-0')));
    expect(refused).toMatchObject({ status: 'PERMISSION_DENIED', code: 'forbidden' });
    expect(await refusal(as('rob').call('ListCustody', {}))).toMatchObject({ code: 'forbidden' });
  });

  test('of more bytes than any request has is refused, and the next one is served', async () => {
    const text = 'x'.repeat(300 * 1024);
    expect(await refusal(as('ada').call('NoteCase', { caseId: 'A', text }))).toMatchObject({
      status: 'RESOURCE_EXHAUSTED',
    });
    expect(await as('ada').call('WhoAmI', {})).toMatchObject({ name: 'ada' });
  });

  test('with a token of pages is refused', async () => {
    const refused = await refusal(client({ authorization: `Bearer ${'a'.repeat(100_000)}` }).call('WhoAmI', {}));
    expect(refused.status).not.toBe('OK');
    expect(await as('ada').call('WhoAmI', {})).toMatchObject({ name: 'ada' });
  });

  test('whose deadline passes lets go of the agents that are asked', async () => {
    lab.agents.set({ cluster: 'east', node: 'n9' }, 'silent');
    const refused = await refusal(as('ada').call('ListContainers', {}, { deadline: Date.now() + 300 }));
    expect(refused.status).toBe('DEADLINE_EXCEEDED');
    await vi.waitFor(() => expect(lab.agents.letGo).toContain('east/n9'));
    lab.agents.set({ cluster: 'east', node: 'n9' }, []);
  });

  test('never answers with a stack trace', async () => {
    const wrong = [
      as('ada').call('GetCapture', { captureId: "' OR 1=1 --" }),
      as('ada').call('ListCaptures', { pageToken: 'AAAA' }),
      as('ada').call('ListCaptures', { states: ["queued'; DROP TABLE captures; --"] }),
      as('ada').call('GetCase', { caseId: 'none' }),
      as('ada').call('CreateCapture', { selector: { cgroup: '/../..' }, node: 'n1' }),
    ];
    for (const one of wrong) {
      const { code, details } = await refusal(one);
      expect(code).not.toBe('internal');
      expect(details).not.toMatch(/\n|\.ts|node_modules|SQL/);
    }
  });
});

describe('an approval', () => {
  test('is another person’s, and of two at once one counts', async () => {
    const captureId = await created('rob', 'prod');
    expect(await refusal(as('rob').call('ApproveCapture', { captureId }))).toMatchObject({ code: 'forbidden' });
    const both = await Promise.allSettled([
      as('sue').call('ApproveCapture', { captureId }),
      as('ada').call('ApproveCapture', { captureId }),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const row = await as('rob').call('GetCapture', { captureId });
    expect(row).toMatchObject({ state: 'queued' });
    expect(row.approvals).toHaveLength(1);
  });
});

describe('a watch', () => {
  test('shows what is known, each change, and ends with the end', async () => {
    const captureId = await created('rob', 'prod');
    const stream = as('rob').watch(captureId);
    const seen: CaptureUpdate__Output[] = [];
    stream.on('data', (update: CaptureUpdate__Output) => seen.push(update));
    await once(stream, 'data');
    await as('sue').call('DenyCapture', { captureId, reason: 'not ours' });
    await once(stream, 'end');
    expect(seen.map(({ capture }) => capture?.state)).toEqual(['awaiting-approval', 'denied']);
    expect(seen.at(-1)?.capture?.error).toBe('Denied by sue: not ours');
  });

  test('of what the caller may not see is not there', async () => {
    const captureId = await created('rob', 'prod');
    const stream = as('vic').watch(captureId);
    const [error] = (await once(stream, 'error')) as [grpc.ServiceError];
    expect(error.code).toBe(grpc.status.NOT_FOUND);
  });
});
