import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { generateSigner } from '../../../evidence/seal.ts';
import { captureIdOf, chainOfBundles, custodyBundle } from './custody-bundle.ts';
import { requireProgram, run } from './programs.ts';
import { sampleBundle, writeTo } from './sample-bundle.ts';

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

const shell = (script: string, folder: string) => run(['bash', '-euo', 'pipefail', '-c', script], undefined, folder);

describe('docs/format.md', async () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-format-'));
    await writeTo(folder, (await sampleBundle()).objects);
  });
  afterAll(async () => rm(folder, { recursive: true, force: true }));

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
      const { objects } = await sampleBundle();
      const bytes = objects.get('processes.tar.zst') ?? Buffer.alloc(0);
      bytes[100] = (bytes[100] ?? 0) ^ 1;
      const seal = objects.get('manifest.dsse.json')?.toString() ?? '';
      objects.set('manifest.dsse.json', Buffer.from(seal.replace(/"sig": "./, '"sig": "/')));
      await writeTo(damaged, objects);
      const failed = (await commands()).filter(({ script }) => shell(script, damaged).status !== 0);
      expect(failed.map(({ heading }) => heading)).toEqual([
        'Objects and their two digests',
        'Compression: zstd frames with a seek table',
        'Archives',
        'The seal',
      ]);
    } finally {
      await rm(damaged, { recursive: true, force: true });
    }
  });
});
