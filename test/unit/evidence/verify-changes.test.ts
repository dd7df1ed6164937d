import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { compare } from '../../../evidence/diff/compare.ts';
import { CHANGES_LIMITS, diffDocument } from '../../../evidence/diff/document.ts';
import { canonicalJson } from '../../../evidence/json.ts';
import { CHANGES_OBJECT, MEDIA_TYPES } from '../../../evidence/layout.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { custodyBundle } from './custody-bundle.ts';
import { someFacts } from './diff/facts-bundle.ts';
import { readerOf } from './sample-bundle.ts';

/** Of a sealed bundle with these bytes as its changes.json: what is wrong with that. */
async function findingsOf(make: (captureId: string) => unknown): Promise<string[]> {
  const { objects } = await custodyBundle({
    change(manifest, all) {
      const made = make(manifest.captureId);
      const bytes = Buffer.from(typeof made === 'string' ? made : canonicalJson(made));
      all.set(CHANGES_OBJECT, bytes);
      const stored = { sizeBytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
      manifest.objects.push({ name: CHANGES_OBJECT, mediaType: MEDIA_TYPES.json, stored });
    },
  });
  const { findings } = await verifyBundle(readerOf(objects));
  return findings.filter(({ object }) => object === CHANGES_OBJECT).map(({ code, severity }) => `${severity} ${code}`);
}

const changes = (captureId: string, ofDiff = captureId) => {
  const facts = someFacts({ modules: { m: { name: 'm' } } });
  const after = { ...facts, about: { ...facts.about, captureId: ofDiff } };
  return { version: 1, captureId, workload: ['prod'], diff: diffDocument(compare(someFacts(), after), CHANGES_LIMITS) };
};

describe('changes.json', () => {
  test('of the capture is intact, with a comparison and without', async () => {
    expect(await findingsOf((id) => changes(id))).toEqual([]);
    expect(await findingsOf((captureId) => ({ version: 1, captureId, workload: [], why: 'the first' }))).toEqual([]);
  });

  test.each<[string, (id: string) => unknown]>([
    ['of another capture', () => changes('other')],
    ['with the differences of another', (id) => changes(id, 'other')],
    ['of another shape', (id) => ({ ...changes(id), more: 1 })],
    ['of another version', (id) => ({ ...changes(id), version: 2 })],
    ['that is no JSON', () => '{'],
  ])('%s is not', async (_, make) => {
    expect(await findingsOf(make)).toEqual(['error changes-invalid']);
  });
});
