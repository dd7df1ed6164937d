import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { manifestSchema } from '../../../evidence/manifest.ts';
import { generateSigner } from '../../../evidence/seal.ts';
import { type VerifyReport, verifyBundle } from '../../../evidence/verify.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { custodyBundle } from '../../unit/evidence/custody-bundle.ts';
import { openIn } from '../../unit/evidence/memory-sink.ts';
import { byteChange, changeBytes, fuzzing } from '../../unit/evidence/mutate.ts';
import { fc } from '../../unit/evidence/properties.ts';
import { readerOf } from '../../unit/evidence/sample-bundle.ts';

/** The bundle of a real capture to mutate instead of the one that the writer makes here: its folder. */
const REAL = process.env.EXHIBIT_FUZZ_BUNDLE;

async function bundleToMutate(): Promise<Map<string, Buffer>> {
  if (REAL === undefined) return (await custodyBundle()).objects;
  const names = await readdir(REAL);
  return new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(REAL, name))] as const)));
}

/** Small pieces find more; those of a real bundle would be too many. */
const verified = (objects: Map<string, Buffer>) =>
  verifyBundle(readerOf(objects, REAL === undefined ? 1000 : 256 * 1024));

const errorsOf = (report: VerifyReport) => report.findings.filter(({ severity }) => severity === 'error');

describe('a bundle of which bytes were changed', () => {
  let objects: Map<string, Buffer>;
  let names: string[];
  beforeAll(async () => {
    objects = await bundleToMutate();
    names = [...objects.keys()];
    expect((await verified(objects)).intact).toBe(true);
  }, 60_000);

  const nameAt = (fraction: number) => names[Math.floor(fraction * names.length)] ?? '';
  const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

  const bytes = fuzzing(150);
  it('is never intact, never ends the reader, and names the object', { timeout: bytes.timeout }, async () => {
    let changed = 0;
    await fc.assert(
      fc.asyncProperty(fraction, fc.array(byteChange, { minLength: 1, maxLength: 3 }), async (which, changes) => {
        const name = nameAt(which);
        const before = objects.get(name) ?? Buffer.alloc(0);
        const after = changes.reduce((now, change) => changeBytes(now, change, [...objects.values()]), before);
        if (after.equals(before)) return;
        changed += 1;
        const report = await verified(new Map(objects).set(name, after));
        expect(report.intact).toBe(false);
        expect(errorsOf(report).some(({ object }) => object === name)).toBe(true);
        expect(report.proves).toEqual([]);
      }),
      bytes,
    );
    expect(changed).toBeGreaterThan(bytes.numRuns === undefined ? 0 : bytes.numRuns / 2);
  });

  const places = fuzzing(40);
  it('is never intact when objects were swapped, renamed, removed or added', { timeout: places.timeout }, async () => {
    const kinds = fc.constantFrom('swap', 'rename', 'remove', 'add');
    await fc.assert(
      fc.asyncProperty(kinds, fraction, fraction, async (kind, one, other) => {
        const [from, to] = [nameAt(one), nameAt(other)];
        const [a, b] = [objects.get(from) ?? Buffer.alloc(0), objects.get(to) ?? Buffer.alloc(0)];
        if (kind === 'swap' && a.equals(b)) return;
        const changed = new Map(objects);
        if (kind === 'swap') changed.set(from, b).set(to, a);
        if (kind === 'rename' || kind === 'remove') changed.delete(from);
        if (kind === 'rename') changed.set(`${from}.old`, a);
        if (kind === 'add') changed.set(`new-${to}`, b);
        const report = await verified(changed);
        expect(report.intact).toBe(false);
        const about = errorsOf(report).map(({ object }) => object);
        expect(about).toContain(kind === 'add' ? `new-${to}` : from);
        if (kind === 'rename') expect(about).toContain(`${from}.old`);
      }),
      places,
    );
  });

  const resealed = fuzzing(60);
  it('never ends the reader when the enemy has the key and seals what he made', {
    timeout: resealed.timeout,
  }, async () => {
    const signer = generateSigner();
    const manifest = manifestSchema.parse(JSON.parse((objects.get('manifest.json') ?? '').toString()));
    const inner = manifest.objects.map(({ name }) => name);
    await fc.assert(
      fc.asyncProperty(fraction, fc.array(byteChange, { minLength: 1, maxLength: 3 }), async (which, changes) => {
        const name = inner[Math.floor(which * inner.length)] ?? '';
        const before = objects.get(name) ?? Buffer.alloc(0);
        const after = changes.reduce((now, change) => changeBytes(now, change, [...objects.values()]), before);
        const changed = new Map(objects).set(name, after);
        const own = structuredClone(manifest);
        const stored = { sha256: createHash('sha256').update(after).digest('hex'), sizeBytes: after.length };
        own.objects = own.objects.map((object) => (object.name === name ? { ...object, stored } : object));
        await createBundleWriter(openIn(changed), { onStored: () => undefined }).seal(own, signer);
        const report = await verified(changed);
        // Frames, content, members or custody say so; only bytes that none of them reads may pass.
        expect(report.sealed).toBe(true);
        expect(errorsOf(report).every(({ code }) => code !== 'object-digest' && code !== 'object-size')).toBe(true);
        if (name.endsWith('.zst') && !after.equals(before)) expect(report.intact).toBe(false);
      }),
      resealed,
    );
  });
});
