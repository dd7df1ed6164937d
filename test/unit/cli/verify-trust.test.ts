import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { makeAuthority } from '../../lab/tsa.ts';
import { hasProgram } from '../evidence/programs.ts';
import { sampleBundle, writeTo } from '../evidence/sample-bundle.ts';
import { type Stamped, stampedBy } from '../evidence/stamping.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

describe.skipIf(!hasProgram('openssl'))('verify by a trust root (needs openssl)', () => {
  let folder: string;
  let bundle: string;
  let stamped: Stamped;
  let ca: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-verify-'));
    bundle = join(folder, 'bundle');
    await using authority = await makeAuthority();
    ca = authority.ca;
    stamped = await stampedBy(await sampleBundle(undefined, true), authority);
    await writeTo(bundle, stamped.objects);
  });
  afterAll(async () => rm(folder, { recursive: true, force: true }));

  test('names the key and the authority as the root does', async () => {
    const file = join(folder, 'trust.json');
    const publicKey = stamped.signer.publicKey.export({ type: 'spki', format: 'pem' });
    const keys = [{ name: 'prod-eu', publicKey }];
    await writeFile(file, JSON.stringify({ keys, timestampAuthorities: [{ name: 'our TSA', certificate: ca }] }));
    const ran = await exhibit(['verify', bundle, '--trust', file]);
    expect(ran.stderr).toBe('');
    const text = ran.stdout.toString();
    expect(text).toContain(`signed by key ${stamped.signer.keyId} (prod-eu), which you trust\n`);
    expect(text).toMatch(/timestamp +\d{4}-.*Z within 1500 ms by our TSA, which you trust\n/);
    expect(text).toMatch(/existed at .*, according to our TSA, which you named as trusted\./);
    expect(ran.code).toBe(0);
  });

  test('takes keys and certificates from one file in PEM', async () => {
    const file = join(folder, 'all.pem');
    await writeFile(file, `${stamped.signer.publicKey.export({ type: 'spki', format: 'pem' })}${ca}`);
    const ran = await exhibit(['verify', bundle, '--trust', file, '--json']);
    expect(JSON.parse(ran.stdout.toString())).toMatchObject({
      intact: true,
      signers: [{ algorithm: 'ed25519', trusted: true }],
      timestamp: { trusted: true, authority: 'lab root', policy: '1.3.6.1.4.1.55555.1' },
    });
  });

  test('says what is wrong with a trust root before it looks at the bundle', async () => {
    const file = join(folder, 'broken.json');
    await writeFile(file, '{ "keys": 7 }');
    const ran = await exhibit(['verify', bundle, '--trust', file]);
    expect(ran).toMatchObject({ code: 2, stderr: expect.stringContaining('broken.json is not a trust root: keys: ') });
  });
});
