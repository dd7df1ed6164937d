import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEncryption } from '../../../evidence/age-writer.ts';
import { requireProgram, run } from './programs.ts';
import { sampleBundle, writeTo } from './sample-bundle.ts';

/** The shell commands of docs/encryption.md, on an encrypted bundle and the identity of its second recipient. */
describe('docs/encryption.md', async () => {
  const text = await readFile(new URL('../../../docs/encryption.md', import.meta.url), 'utf8');
  const scripts = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
  let folder: string;
  let bundle: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-encryption-'));
    bundle = join(folder, 'bundle');
    const identities = await Promise.all([generateX25519Identity(), generateX25519Identity()]);
    const recipients = await Promise.all(identities.map((identity) => identityToRecipient(identity)));
    const { objects } = await sampleBundle(undefined, false, await createEncryption(recipients));
    await writeTo(bundle, objects);
    await writeFile(join(folder, 'lab.key'), `# made for a test\n${identities[1]}\n`);
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const shell = (script: string) =>
    run(['bash', '-euo', 'pipefail', '-c', `KEY=../lab.key\n${script}`], undefined, bundle);

  it('has commands at all', () => {
    expect(scripts.length).toBe(4);
  });

  for (const script of scripts) {
    it(`has commands that work on a bundle: ${script.split('\n')[0]}`, (context) => {
      requireProgram(context, 'bash', 'age', 'jq', 'zstd', 'tar', 'sha256sum', 'base64');
      const ran = shell(script);
      expect(ran.status, ran.stderr).toBe(0);
    });
  }

  it('has commands that fail when a stored byte was changed', async (context) => {
    requireProgram(context, 'bash', 'age', 'jq', 'zstd', 'tar', 'sha256sum', 'base64');
    const file = join(bundle, 'processes.tar.zst.age');
    const bytes = await readFile(file);
    const damaged = Buffer.from(bytes);
    damaged[damaged.length - 20] = (damaged.at(-20) ?? 0) ^ 1;
    await writeFile(file, damaged);
    try {
      // The first step's pipe would hide tar's words behind age's.
      expect(scripts.slice(0, 3).map((script) => shell(script).status === 0)).toEqual([false, false, false]);
    } finally {
      await writeFile(file, bytes);
    }
  });
});
