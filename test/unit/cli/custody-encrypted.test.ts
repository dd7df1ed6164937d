import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createEncryption } from '../../../evidence/age-writer.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { CHAIN_ID, captureIdOf, chainOfBundles } from '../evidence/custody-bundle.ts';
import { writeTo } from '../evidence/sample-bundle.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

describe('the custody of encrypted bundles', () => {
  let folder: string;
  let key: string;
  let bundle: string;
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'exhibit-custody-age-'));
    const identity = await generateX25519Identity();
    const encrypt = await createEncryption([await identityToRecipient(identity)]);
    key = path.join(folder, 'lab.key');
    await writeFile(key, `${identity}\n`);
    const captures = await chainOfBundles(3, generateSigner(), true, () => encrypt);
    for (const [name, objects] of captures) await writeTo(path.join(folder, 'node', name), objects);
    bundle = path.join(folder, 'node', captureIdOf(2));
  });
  afterAll(async () => rm(folder, { recursive: true }));

  const sealedDigests = async (): Promise<[string, string][]> => {
    const seal = JSON.parse(await readFile(path.join(bundle, 'manifest.dsse.json'), 'utf8'));
    const { subject } = JSON.parse(Buffer.from(seal.payload, 'base64').toString());
    return subject.map(({ name, digest }: { name: string; digest: { sha256: string } }) => [name, digest.sha256]);
  };

  test('is recorded with an identity as that of plain ones, with the digests of what is stored', async () => {
    const ran = await exhibit(['custody', bundle, '--identity', key, '--verify', '--chain']);
    const words = ran.stdout.toString();
    expect(ran.code, ran.stderr).toBe(0);
    for (const expected of ['CASE-7', 'EX-1', 'the agent took it on', 'INTACT: nothing differs', 'encrypted (age)']) {
      expect(words).toContain(expected);
    }
    const digests = await sealedDigests();
    for (const [name, sha256] of digests.filter(([one]) => one !== 'manifest.json.age')) {
      expect(words, name).toContain(sha256);
    }
    expect(words).toContain('3 looked at: none is missing between those that are there');
  });

  test('is recorded without one by what the seal says: exit code 3, and no word of what is inside', async () => {
    for (const argv of [
      ['custody', bundle],
      ['custody', bundle, '--verify', '--chain'],
    ]) {
      const ran = await exhibit(argv);
      const words = ran.stdout.toString();
      expect(ran, ran.stderr).toMatchObject({ code: 3, stderr: '' });
      expect(words).toContain('The bundle is encrypted, and no identity was given that opens it.');
      expect(words).toContain(captureIdOf(2));
      expect(words).toContain(`${CHAIN_ID}, number 2`);
      for (const [name, sha256] of await sealedDigests()) {
        expect(words).toContain(name);
        expect(words).toContain(sha256);
      }
      expect(words).toContain('contents-encrypted: The bundle is encrypted to 1 x X25519');
      expect(words).not.toMatch(/CASE-7|the capture was not finished|lists no gap|NOT INTACT|default\/shop-1/);
      expect(words).toContain(argv.includes('--verify') ? 'INTACT AS STORED:' : 'The seal is good.');
    }
  });

  test('is not good without an identity when a stored byte is another, or a capture of the chain is gone', async () => {
    const damaged = path.join(folder, 'damaged');
    await shell(`cp -r ${path.join(folder, 'node')} ${damaged}`);
    const other = path.join(damaged, captureIdOf(2));
    const log = path.join(other, 'custody.jsonl.age');
    const bytes = await readFile(log);
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
    await writeFile(log, bytes);
    const ran = await exhibit(['custody', other, '--verify']);
    expect(ran.code).toBe(1);
    expect(ran.stdout.toString()).toContain('NOT INTACT');
    const opened = await exhibit(['custody', other, '--identity', key]);
    expect(opened.code).toBe(1);
    expect(opened.stdout.toString()).toContain('custody.jsonl cannot be read: custody.jsonl is damaged');
    await rm(path.join(damaged, captureIdOf(1)), { recursive: true });
    const holed = await exhibit(['custody', path.join(damaged, captureIdOf(3)), '--chain']);
    expect(holed.code).toBe(1);
    expect(holed.stdout.toString()).toContain('the chain is broken');
  });

  test('has its log checked by verify, and its chain by --chain, with a pipe as the identity file', async () => {
    const cli = path.join(import.meta.dirname, '../../../cli/main.ts');
    const piped = await shell(
      `cat ${key} | ${process.execPath} ${cli} verify ${bundle} --chain --json --identity /dev/stdin`,
    );
    const report = JSON.parse(piped.stdout.toString());
    expect(report).toMatchObject({ intact: true, custody: { whole: true }, chain: { whole: true, captures: 3 } });
    expect(report.chain.chains[0].first).not.toHaveProperty('startedAtFrom');
    const without = await exhibit(['verify', bundle, '--chain']);
    expect(without.code).toBe(3);
    expect(without.stdout.toString()).toMatch(/^INTACT AS STORED.*\nCHAIN WHOLE\n/s);
    const folderAlone = await exhibit(['verify', path.join(folder, 'node'), '--chain']);
    expect(folderAlone.code).toBe(0);
  });
});
