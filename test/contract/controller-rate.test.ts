import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { serveGrpc } from '../../controller/api/grpc.ts';
import { openHttp } from '../../controller/api/http.ts';
import { createIdentity } from '../../controller/identity/authenticate.ts';
import { identitySchema } from '../../controller/identity/operators.ts';
import { createRateLimit } from '../../controller/identity/rate.ts';
import { openListener } from '../../controller/tls.ts';
import { apiClient, refusal } from '../lab/controller-client.ts';
import { labPki } from '../lab/pki.ts';
import { labDomain } from '../unit/controller/lab-domain.ts';

/** Both forms of the API on one port, as the controller serves them, with a limit that a test reaches. */

const grants = [{ role: 'admin', clusters: ['*'], namespaces: ['*'] }];
const slow = { perSecond: 0.001, burst: 3 };

async function served() {
  await using stack = new AsyncDisposableStack();
  const log = pino({ level: 'silent' });
  const pki = stack.use(await labPki());
  const operators = ['ada', 'bo'].map((name) => ({ name, certificate: name, grants }));
  const config = identitySchema.parse({ operators, rate: { read: slow, write: slow } });
  const { api, domain } = stack.use(await labDomain({ rateLimit: createRateLimit(config.rate) }));
  const parts = { api, identity: createIdentity(config, log), log };
  const grpc = serveGrpc(parts);
  const http = await openHttp({ ...parts, store: domain.store });
  const handlers = { h2: grpc.accept, 'http/1.1': http.accept };
  const listener = stack.use(await openListener({ ...pki.listener('operators'), handlers }, log));
  stack.use(http);
  stack.use(grpc);
  const caFile = pki.caFile('controller');
  const files = { ada: await pki.operator('ada'), bo: await pki.operator('bo') };
  const owned = stack.move();
  return {
    client: (name: 'ada' | 'bo') => apiClient(`127.0.0.1:${listener.port}`, { caFile, files: files[name] }),
    /** Status, and the seconds of `retry-after`. */
    whoami: async (name: 'ada' | 'bo') => {
      const shown = ['--cacert', caFile, '--cert', files[name].certFile, '--key', files[name].keyFile];
      const printed = ['--silent', '--output', '/dev/null', '--write-out', '%{http_code} %header{retry-after}'];
      const url = `https://localhost:${listener.port}/v1/whoami`;
      return (await promisify(execFile)('curl', [...shown, ...printed, url])).stdout.trim();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

describe('the rate of an operator', () => {
  test('is one for gRPC and JSON, and leaves the others theirs', async () => {
    await using lab = await served();
    using ada = lab.client('ada');
    using bo = lab.client('bo');
    expect(await lab.whoami('ada')).toBe('200');
    await ada.call('WhoAmI', {});
    expect(await lab.whoami('ada')).toBe('200');
    const refused = await refusal(ada.call('WhoAmI', {}));
    expect(refused).toMatchObject({ status: 'RESOURCE_EXHAUSTED', code: 'rate-limited' });
    expect(refused.details).toMatch(/of ada: wait \d+ s/);
    expect(await lab.whoami('ada')).toMatch(/^429 \d+$/);
    expect(await lab.whoami('bo')).toBe('200');
    await bo.call('WhoAmI', {});
    // Changes are counted by themselves, and a watch is a question.
    await ada.call('OpenCase', { caseId: 'IR-1', title: 'a title' });
    const stream = ada.watch('0198c0de-3c4f-7a10-8000-5f2c0a7e9b11');
    const failed = await refusal(stream.toArray());
    expect(failed.code).toBe('rate-limited');
  });
});
