import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateSigner } from '../../../evidence/seal.ts';
import { createSealer } from '../../../evidence/sealer.ts';
import { type Authority, makeAuthority } from '../../lab/tsa.ts';
import { captureIdOf, chainOfBundles, custodyBundle } from './custody-bundle.ts';
import { hasProgram, requireProgram, run } from './programs.ts';
import { sampleBundle, writeTo } from './sample-bundle.ts';
import { p256Signer, resealedBy } from './sealing.ts';
import { answerOver } from './stamping.ts';

const FORMAT = new URL('../../../docs/format.md', import.meta.url);

/** The shell commands of docs/format.md, under the heading that each stands below. */
async function commands(): Promise<{ heading: string; script: string }[]> {
  const text = await readFile(FORMAT, 'utf8');
  return text.split(/^## /m).flatMap((section) =>
    [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => ({
      heading: section.slice(0, section.indexOf('\n')),
      script: match[1] ?? '',
    })),
  );
}

describe('docs/format.md', async () => {
  let folder: string;
  let objects: Map<string, Buffer>;
  let authority: Authority | undefined;
  /** Both kinds of keys, and a timestamp where openssl can make one. */
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-format-'));
    const stamping = hasProgram('openssl') ? await makeAuthority({ intermediate: true }) : undefined;
    authority = stamping;
    const timestamp = stamping && {
      requestedFrom: ['http://tsa.example/'],
      stamp: (message: Uint8Array) => answerOver(stamping, message),
    };
    const sealer = createSealer({ signers: [generateSigner(), p256Signer()], ...(timestamp && { timestamp }) });
    objects = await resealedBy(await sampleBundle(), sealer);
    await writeTo(folder, objects);
  });
  afterAll(async () => {
    await authority?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const shell = (script: string, where: string) =>
    run(
      ['env', `TSA_ROOT=${authority?.caFile}`, `TMPDIR=${folder}`, 'bash', '-euo', 'pipefail', '-c', script],
      undefined,
      where,
    );

  for (const { heading, script } of await commands()) {
    it(`has commands that work on a bundle: ${heading}`, (context) => {
      requireProgram(context, 'bash', 'jq', 'zstd', 'tar', 'openssl', 'sha256sum', 'od');
      const ran = shell(script, folder);
      expect(ran.status, ran.stderr).toBe(0);
    });
  }

  it('has commands that work on a bundle with a custody log and a place in a chain, and that see what was changed', async (context) => {
    requireProgram(context, 'bash', 'jq', 'zstd', 'tar', 'openssl', 'sha256sum', 'od');
    const node = await mkdtemp(join(tmpdir(), 'exhibit-format-'));
    const failing = async (name: string) =>
      (await commands())
        .filter(({ script }) => shell(script, join(node, name)).status !== 0)
        .map(({ heading }) => heading);
    try {
      const captures = await chainOfBundles(3, generateSigner(), false);
      for (const [name, objects] of captures) await writeTo(join(node, name), objects);
      expect(await failing(captureIdOf(3))).toEqual([]);
      await rm(join(node, captureIdOf(2)), { recursive: true });
      expect(await failing(captureIdOf(3))).toEqual(['The sink, and the chain of captures']);
      const changes: ((lines: string[]) => string[])[] = [
        (lines) => lines.toSpliced(2, 1),
        (lines) => lines.slice(0, -1),
        (lines) => lines.with(1, (lines[1] ?? '').replace('took it on', 'TOOK it on')),
      ];
      for (const [index, change] of changes.entries()) {
        const log = (bytes: Buffer) => Buffer.from(change(bytes.toString().split(/(?<=\n)/)).join(''));
        await writeTo(join(node, `changed-${index}`), (await custodyBundle({ tiny: true, log })).objects);
        expect(await failing(`changed-${index}`)).toContain('The custody log');
      }
    } finally {
      await rm(node, { recursive: true, force: true });
    }
  }, 60_000);

  it('has commands that fail on a bundle that was changed', async (context) => {
    requireProgram(context, 'bash', 'jq', 'zstd', 'tar', 'openssl', 'sha256sum', 'od');
    const damaged = await mkdtemp(join(tmpdir(), 'exhibit-format-'));
    try {
      const bytes = Buffer.from(objects.get('processes.tar.zst') ?? []);
      bytes[100] = (bytes[100] ?? 0) ^ 1;
      const seal = objects.get('manifest.dsse.json')?.toString() ?? '';
      const changed = new Map(objects).set('processes.tar.zst', bytes);
      changed.set('manifest.dsse.json', Buffer.from(seal.replace(/"sig": "./, '"sig": "/')));
      await writeTo(damaged, changed);
      const failed = (await commands()).filter(({ script }) => shell(script, damaged).status !== 0);
      expect(failed.map(({ heading }) => heading)).toEqual([
        'Objects and their two digests',
        'Compression: zstd frames with a seek table',
        'Archives',
        'The seal',
        'The timestamp',
      ]);
    } finally {
      await rm(damaged, { recursive: true, force: true });
    }
  });

  it('has commands that notice the second of two signatures', async (context) => {
    requireProgram(context, 'bash', 'jq', 'openssl', 'sha256sum');
    const seal: { signatures: { sig: string }[] } = JSON.parse(objects.get('manifest.dsse.json')?.toString() ?? '');
    const last = seal.signatures.at(-1);
    const der = Buffer.from(last?.sig ?? '', 'base64');
    der.writeUInt8(der.readUInt8(20) ^ 1, 20);
    if (last !== undefined) last.sig = der.toString('base64');
    const damaged = await mkdtemp(join(tmpdir(), 'exhibit-format-'));
    try {
      await writeTo(damaged, new Map(objects).set('manifest.dsse.json', Buffer.from(JSON.stringify(seal))));
      const failed = (await commands()).filter(({ script }) => shell(script, damaged).status !== 0);
      expect(failed.map(({ heading }) => heading)).toEqual(['The seal', 'The timestamp']);
    } finally {
      await rm(damaged, { recursive: true, force: true });
    }
  });
});
