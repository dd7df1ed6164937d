import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openFolderBundle } from '../../../evidence/bundle-folder.ts';
import { canonicalJson } from '../../../evidence/json.ts';
import { verifyBundle } from '../../../evidence/verify.ts';
import { exhibit } from '../cli/run.ts';
import { readerOf, sampleBundle } from './sample-bundle.ts';

/**
 * Written by exhibit before it kept a custody log, chained captures or let several keys sign (the state of 27 November 2026,
 * commit 4ebefba): the sample bundle of its own tests.
 */
const OLDER = fileURLToPath(new URL('../fixtures/older-bundle', import.meta.url));

describe('a bundle of an older agent', () => {
  it('is intact, and nothing is missed in it', async () => {
    await using reader = await openFolderBundle(OLDER);
    const report = await verifyBundle(reader);
    expect(report.findings.map(({ severity, code }) => `${severity} ${code}`)).toEqual(['warning signer-unvouched']);
    expect(report).toMatchObject({ intact: true, sealed: true, counts: { objects: 6, errors: 0 } });
    expect(report.signer?.algorithm).toBe('ed25519');
    expect(report.custody).toBeUndefined();
  });

  it('is read by the commands for bundles', async () => {
    const list = await exhibit(['extract', OLDER, 'processes', '--list', '--json']);
    expect(list.code, list.stderr).toBe(0);
    expect(JSON.parse(`${list.stdout}`).members.length).toBeGreaterThan(0);
    const record = await exhibit(['custody', OLDER, '--verify']);
    expect(record.code, record.stderr).toBe(0);
    expect(`${record.stdout}`).toContain('CASE-7');
  });
});

describe('a bundle of a newer agent', () => {
  it('is refused for what this reader does not know, with what to do', async () => {
    const { objects, manifest } = await sampleBundle();
    objects.set('manifest.json', Buffer.from(canonicalJson({ ...manifest, weather: 'fine' })));
    const report = await verifyBundle(readerOf(objects));
    expect(report.intact).toBe(false);
    expect(report.findings.find(({ code }) => code === 'manifest-invalid')?.message).toBe(
      'manifest.json has not the expected shape: Unrecognized key: "weather" ' +
        '(a newer exhibit may know them: verify with one that is not older than the agent)',
    );
  });

  it('is refused so for its seal, too', async () => {
    const { objects } = await sampleBundle();
    const envelope = JSON.parse(`${objects.get('manifest.dsse.json')}`);
    objects.set('manifest.dsse.json', Buffer.from(canonicalJson({ ...envelope, weather: 'fine' })));
    const report = await verifyBundle(readerOf(objects));
    expect(report.findings.find(({ code }) => code === 'seal-invalid')?.message).toBe(
      'manifest.dsse.json: the seal has not the expected shape: Unrecognized key: "weather" ' +
        '(a newer exhibit may know them: verify with one that is not older than the agent)',
    );
  });
});
