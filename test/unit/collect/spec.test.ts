import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { specCollector } from '../../../agent/collect/spec.ts';
import { bundleContext, makeTarget, TARGET_RECORD } from './bundle-context.ts';

let root = '';
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-spec-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('documents are kept byte for byte, beside the record and the mounts', async () => {
  const bytes = Buffer.from([0x7b, 0xff, 0x0a, 0x7d]);
  const mounts = [{ containerPath: '/data', hostPath: '/mnt', type: 'bind', readOnly: true }];
  const bundle = bundleContext(root, makeTarget({ mounts, documents: [{ name: 'oci-spec.json', bytes }] }));
  await specCollector.collect(bundle.context);
  const tar = bundle.content('spec.tar.zst');
  const read = (name: string): Buffer => execFileSync('tar', ['-xO', name], { input: tar });
  expect(read('oci-spec.json')).toEqual(bytes);
  expect(JSON.parse(read('target.json').toString())).toEqual(TARGET_RECORD);
  expect(JSON.parse(read('mounts.json').toString())).toEqual(mounts);
});

test('a name that is taken or leads elsewhere is a gap', async () => {
  const bytes = Buffer.from('{}');
  const documents = ['../x', 'a/b', 'target.json', '.hidden', 'ok.json', 'ok.json'].map((name) => ({ name, bytes }));
  const bundle = bundleContext(root, makeTarget({ documents }));
  await specCollector.collect(bundle.context);
  expect(bundle.objects[0]?.members?.map(({ path: name }) => name)).toEqual(['target.json', 'mounts.json', 'ok.json']);
  expect(bundle.gaps).toHaveLength(5);
});
