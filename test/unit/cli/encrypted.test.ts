import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createEncryption } from '../../../evidence/age-writer.ts';
import type { BundleWriter } from '../../../evidence/write.ts';
import { memoryMembers, pages, writeMemory } from '../evidence/memory-bundle.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';
import { serveAsS3 } from './s3-server.ts';
import { type SomeBundle, someBundle } from './some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

const HEAP = 0x5555_0000_0000n;
const HEAP_PAGES = 1024;

let some: SomeBundle;
let key: string;
let otherKey: string;
beforeAll(async () => {
  const [identity, other] = [await generateX25519Identity(), await generateX25519Identity()];
  const encrypt = await createEncryption([await identityToRecipient(identity)]);
  const heap = pages(HEAP_PAGES, 'secret token=hunter2', 700 * 4096);
  const region = { start: HEAP, pages: HEAP_PAGES, kind: 'heap', captured: [[0, heap]] } as const;
  const members = await memoryMembers([{ pid: 4711, regions: [region] }]);
  const fill = async (writer: BundleWriter) => {
    await using rootfs = await writer.openArchive('rootfs.tar.zst', { mediaType: 'ociLayer' });
    await rootfs.add({ path: 'tmp/dropped', type: 'file', sizeBytes: 5 }, Buffer.from('evil\n'));
    await rootfs.commit();
    await using findings = await writer.openText('rootfs.findings.jsonl.zst', 'jsonl');
    await findings.commit();
    const objects = ['rootfs.tar.zst', 'rootfs.findings.jsonl.zst'];
    return { ...(await writeMemory(writer, members)), rootfs: objects };
  };
  some = await someBundle({ fill, frameBytes: 64 * 1024, encrypt });
  key = path.join(some.folder, 'lab.key');
  otherKey = path.join(some.folder, 'other.key');
  await writeFile(key, `# lab\n${identity}\n`);
  await writeFile(otherKey, `${other}\n`);
});
afterAll(() => some[Symbol.asyncDispose]());

describe('an encrypted bundle, on the command line', () => {
  test('is verified whole with --identity, and with EXHIBIT_IDENTITY', async () => {
    for (const ran of [
      await exhibit(['verify', some.bundle, '--identity', otherKey, key]),
      await exhibit(['verify', some.bundle], { env: { EXHIBIT_IDENTITY: key } }),
    ]) {
      expect(ran, ran.stderr).toMatchObject({ code: 0, stderr: '' });
      expect(ran.stdout.toString()).toMatch(/^INTACT\n/);
      expect(ran.stdout.toString()).toContain('age, opened');
    }
  });

  test('is verified as stored without one: exit code 3, and what was not checked', async () => {
    const ran = await exhibit(['verify', some.bundle]);
    const text = ran.stdout.toString();
    expect(ran.code).toBe(3);
    expect(text).toMatch(/^INTACT AS STORED: every stored byte is what was sealed; .* was not checked\n/);
    expect(text).toContain('The manifest, the contents, the members and the gaps were not checked.');
    expect(text).toContain('contents-encrypted: The bundle is encrypted to 1 x X25519 with age');
    const wrong = await exhibit(['verify', some.bundle, '--json', '--identity', otherKey]);
    expect(wrong.code).toBe(3);
    expect(JSON.parse(wrong.stdout.toString())).toMatchObject({
      intact: false,
      intactAsStored: true,
      encryption: { read: false, recipients: ['X25519'] },
      findings: expect.arrayContaining([expect.objectContaining({ code: 'identity-wrong' })]),
    });
  });

  test('is read by the commands that read bundles', async () => {
    const identity = ['--identity', key];
    const member = await exhibit(['extract', some.bundle, 'rootfs', 'tmp/dropped', ...identity]);
    expect(member, member.stderr).toMatchObject({ code: 0, stderr: '' });
    expect(member.stdout.toString()).toBe('evil\n');
    const record = await exhibit(['extract', some.bundle, 'request.json', ...identity]);
    expect(record, record.stderr).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(record.stdout.toString())).toMatchObject({ selector: 'prod/web-0' });
    const strings = await exhibit(['strings', some.bundle, '4711', ...identity]);
    expect(strings.stdout.toString()).toContain('secret token=hunter2');
    const rules = path.join(some.folder, 'rules.yar');
    await writeFile(rules, 'rule token { strings: $a = "hunter2" condition: $a }');
    const scan = await exhibit(['scan', some.bundle, '--yara', rules, '--json', ...identity]);
    expect(scan, scan.stderr).toMatchObject({ code: 0 });
    expect(scan.stdout.toString()).toContain('0x5555002bc00d');
    const findings = await exhibit(['findings', some.bundle, ...identity]);
    expect(findings, findings.stderr).toMatchObject({ code: 0 });
    expect(findings.stdout.toString()).toBe('0 findings\n');
    const timeline = await exhibit([
      'timeline',
      some.bundle,
      '--output',
      path.join(some.folder, 't.jsonl'),
      ...identity,
    ]);
    expect(timeline, timeline.stderr).toMatchObject({ code: 0 });
    const core = path.join(some.folder, 'core.4711');
    expect(await exhibit(['core', some.bundle, '4711', '--output', core, ...identity])).toMatchObject({ code: 0 });
    expect((await readFile(core)).includes('secret token=hunter2')).toBe(true);
    const tar = path.join(some.folder, 'image.tar');
    const image = await exhibit(['image', some.bundle, tar, '--base', 'none', ...identity]);
    expect(image, image.stderr).toMatchObject({ code: 0 });
    const layer = `tar -xOf ${tar} manifest.json | jq -r '.[0].Layers[0]'`;
    const listed = await shell(`tar -xOf ${tar} "$(${layer})" | zstd -dc | tar -t`);
    expect(listed.stdout.toString()).toBe('tmp/dropped\n');
  });

  test('is read in the middle from S3 with the chunks of a few frames, not the archive', async () => {
    await using s3 = await serveAsS3(some.bundle, 'evidence', 'a/b');
    const env = { AWS_ACCESS_KEY_ID: 'x', AWS_SECRET_ACCESS_KEY: 'y' };
    const at = `0x${(HEAP + 700n * 4096n).toString(16)}`;
    const argv = ['mem', 's3://evidence/a/b', '4711', at, '32', '--json', '--stats'];
    const ran = await exhibit([...argv, '--endpoint', s3.endpoint, '--region', 'x', '--identity', key], { env });
    const [part] = JSON.parse(ran.stdout.toString()).parts;
    expect(Buffer.from(part.base64, 'base64').toString('latin1')).toMatch(/^secret token=hunter2/);
    const { stats } = JSON.parse(ran.stderr);
    expect(stats.frames).toBeGreaterThan(50);
    expect(stats.framesRead).toBeLessThan(12);
  });

  test('tells the other commands’ users what is needed, and what can be checked without it', async () => {
    for (const argv of [
      ['extract', some.bundle, 'rootfs'],
      ['mem', some.bundle, '4711', '0x555500000000', '16'],
      ['findings', some.bundle],
    ]) {
      const ran = await exhibit(argv);
      expect(ran.code).toBe(1);
      expect(ran.stdout.length).toBe(0);
      expect(ran.stderr).toMatch(
        /^exhibit: The bundle is encrypted to 1 x X25519 with age, and no identity .* --identity .* `exhibit verify` checks the seal/,
      );
    }
    const ran = await exhibit(['strings', some.bundle, '--json', '--identity', otherKey]);
    expect(JSON.parse(ran.stderr)).toMatchObject({ error: { code: 'bundle-encrypted' } });
  });

  test('refuses what is no identity with a sentence, and says nothing of what is in the file', async () => {
    const file = path.join(some.folder, 'wrong.key');
    for (const [text, words] of [
      ['AGE-PLUGIN-YUBIKEY-1QVERYSECRET', /is of an age plugin/],
      ['-----BEGIN OPENSSH PRIVATE KEY-----\nVERYSECRET', /is an SSH key/],
      ['VERYSECRET', /holds a line that is no age identity/],
    ] as const) {
      await writeFile(file, text);
      const ran = await exhibit(['verify', some.bundle, '--identity', file]);
      expect(ran.code).toBe(2);
      expect(ran.stderr).toMatch(words);
      expect(ran.stderr).not.toContain('VERYSECRET');
    }
    const missing = await exhibit(['verify', some.bundle, '--identity', path.join(some.folder, 'none.key')]);
    expect(missing).toMatchObject({ code: 2, stderr: expect.stringMatching(/none\.key cannot be read/) });
  });

  test('needs no identity when it is not encrypted, and does not mind one', async () => {
    await using plain = await someBundle();
    expect(await exhibit(['verify', plain.bundle, '--identity', key])).toMatchObject({ code: 0 });
  });
});
