import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
