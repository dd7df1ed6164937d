import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadSigner } from '../../../evidence/seal.ts';
import { parseTrust } from '../../../evidence/trust.ts';
import { makeAuthority } from '../../lab/tsa.ts';
import { requireProgram, run } from './programs.ts';

describe('docs/trust.md', () => {
  it('has commands that make keys, and a trust root that believes them', async (context) => {
    requireProgram(context, 'bash', 'openssl', 'jq', 'sha256sum');
    const text = await readFile(new URL('../../../docs/trust.md', import.meta.url), 'utf8');
    const script = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]).join('\n');
    const folder = await mkdtemp(join(tmpdir(), 'exhibit-trust-'));
    try {
      await using authority = await makeAuthority();
      await writeFile(join(folder, 'tsa-root.pem'), authority.ca);
      const ran = run(['bash', '-euo', 'pipefail', '-c', script], undefined, folder);
      expect(ran, ran.stderr).toMatchObject({ status: 0 });
      const trust = parseTrust(await readFile(join(folder, 'trust.json')), 'trust.json');
      const [one, two] = await Promise.all(['seal.pem', 'second.pem'].map((name) => loadSigner(join(folder, name))));
      expect(trust.keys).toMatchObject([{ keyId: one?.keyId, name: 'prod-eu 2026' }, { keyId: two?.keyId }]);
      expect(trust.timestampAuthorities).toMatchObject([{ name: 'Example TSA' }]);
      expect(ran.stdout.toString()).toContain(one?.keyId);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
