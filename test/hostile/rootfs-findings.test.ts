import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type Finding, findingSchema } from '../../evidence/file-finding.ts';
import type { BundleContext } from '../unit/collect/bundle-context.ts';
import { capture, eachWithLayers, lower, python, root, upper } from './layers-lab.ts';

/** Images and containers that are made to hurt whoever compares them. */

const isRoot = process.getuid?.() === 0;
eachWithLayers();

const findingsOf = (bundle: BundleContext): Finding[] =>
  bundle
    .content('rootfs.findings.jsonl.zst')
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => findingSchema.parse(JSON.parse(line)));

test('a deleted folder of FIFOs, sockets, devices and links in a circle is read without waking one of them', async ({
  skip,
}) => {
  if (!isRoot) skip('needs root: device nodes are made');
  python(
    root,
    `import socket
os.mkdir('lower/gone'); os.chdir('lower/gone'); os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('socket')
os.mknod('watchdog', 0o600 | stat.S_IFCHR, os.makedev(10, 130)); os.symlink('a', 'b'); os.symlink('b', 'a')
open('file', 'w').write('x'); os.mknod('${upper}/gone', 0o600 | stat.S_IFCHR, 0)
open('${upper}/run', 'w').write('#!/bin/sh'); os.mkfifo('../fifo')`,
  );
  const bundle = await capture({ now: Date.now });
  expect(findingsOf(bundle).map(({ kind, path: where }) => `${kind} ${where}`)).toEqual([
    'image-file-deleted gone/file',
    'executable-not-in-image run',
  ]);
  expect(bundle.gaps).toEqual([]);
});

test('a deleted file of 8 TiB is a gap, and the small one after it is kept', async ({ skip }) => {
  if (!isRoot) skip('needs root: whiteouts are made');
  try {
    python(root, `f = os.open('lower/huge', os.O_RDWR | os.O_CREAT); os.ftruncate(f, 2**43)`);
  } catch {
    skip('needs a file system that takes an 8 TiB sparse file');
  }
  python(
    root,
    `open('lower/small', 'w').write('x')
for name in ('huge', 'small'): os.mknod('upper/' + name, 0o600 | stat.S_IFCHR, 0)`,
  );
  const bundle = await capture({ now: Date.now });
  expect(findingsOf(bundle).map(({ path: where, original }) => [where, original])).toEqual([
    ['huge', undefined],
    ['small', 'small'],
  ]);
  expect(bundle.gaps.map(({ what }) => what)).toEqual(['originals of deleted and changed files']);
});

test('names that are not UTF-8, or hold newlines and terminal codes, are kept as bytes on one line', async () => {
  python(
    root,
    String.raw`
for name in (b'\xff\xfe', b'a\nb', b'\x1b[31mred', b'__proto__'):
    with open(b'upper/' + name, 'wb') as f: f.write(b'\x7fELF' + name)
    os.chmod(b'upper/' + name, 0o4755)`,
  );
  const found = findingsOf(await capture({ now: Date.now })).filter(({ kind }) => kind === 'set-id');
  expect(found.map(({ path: where, pathBase64 }) => pathBase64 ?? where).sort()).toEqual(
    ['//4=', '\x1b[31mred', '__proto__', 'a\nb'].sort(),
  );
});

test('thousands of programs are told of, the first ones after a search of the image', async () => {
  python(
    root,
    `
for i in range(9000):
    with open('upper/p%04d' % i, 'wb') as f: f.write(b'\\x7fELF%04d' % (i % 8500))
open('lower/known', 'wb').write(b'\\x7fELF0001')`,
  );
  const found = findingsOf(await capture({ now: Date.now })).filter(({ kind }) => kind === 'executable-not-in-image');
  const searched = found.filter(({ reasons }) => reasons.includes('not-in-image'));
  // 4,000 are held, and of them one is the image's.
  expect([found.length, searched.length]).toEqual([8_999, 3_999]);
  expect(found.find(({ path: where }) => where === 'p0001')).toBeUndefined();
  expect(found.find(({ path: where }) => where === 'p8999')?.reasons).toContain('image-not-searched');
}, 60_000);

test('a folder that was deleted and made again deeper than paths go is a gap, and what is above is told', async ({
  skip,
}) => {
  if (!isRoot) skip('needs root: trusted attributes are set');
  python(
    root,
    `
for top in ('lower', 'upper'):
    os.chdir('${root}/' + top); os.mkdir('d'); os.chdir('d'); open('here', 'w').write(top)
    for _ in range(180):
        os.mkdir('x' * 200); os.chdir('x' * 200)
    open('deep', 'w').write(top)
os.setxattr('${upper}/d', 'trusted.overlay.opaque', b'y'); os.unlink('${upper}/d/here')`,
  );
  const bundle = await capture({ now: Date.now });
  expect(findingsOf(bundle).map(({ path: where }) => where)).toEqual(['d/here']);
  expect(bundle.gaps.map(({ what, errno }) => `${what.slice(0, 2)} ${errno}`)).toContain('d ENAMETOOLONG');
});

test('image files that cannot be opened are gaps of their own', async ({ skip }) => {
  if (!isRoot) skip('needs root, to become somebody who may not read');
  writeFileSync(path.join(lower, 'secret'), 'x', { mode: 0 });
  writeFileSync(path.join(lower, 'open'), 'x');
  python(root, `for name in ('secret', 'open'): os.mknod('upper/' + name, 0o600 | stat.S_IFCHR, 0)`);
  execFileSync('chmod', ['755', root, upper, lower]);
  const here = process.cwd();
  const script = path.join(root, 'run.ts');
  writeFileSync(
    script,
    `import { bundleContext, makeTarget } from '${here}/test/unit/collect/bundle-context.ts';
import { rootfsCollector } from '${here}/agent/collect/rootfs.ts';
process.setgroups?.([]); process.setgid?.(65534); process.setuid?.(65534);
const rootfs = { kind: 'overlay', upper: '${upper}', lowers: ['${lower}'], userXattr: false };
const bundle = bundleContext('${root}/out', makeTarget({ rootfs }));
await rootfsCollector.collect(bundle.context);
console.log(JSON.stringify({ gaps: bundle.gaps, findings: bundle.content('rootfs.findings.jsonl.zst').toString() }));`,
  );
  mkdirSync(path.join(root, 'out'));
  execFileSync('chmod', ['777', path.join(root, 'out')]);
  const ran = JSON.parse(execFileSync(process.execPath, [script], { encoding: 'utf8' })) as {
    gaps: Array<{ what: string; errno?: string; why: string }>;
    findings: string;
  };
  expect(ran.findings).toContain('"path":"open"');
  expect(ran.findings).toContain('"path":"secret"');
  expect(ran.gaps.filter(({ what }) => what === 'secret').map(({ errno, why }) => [errno, why])).toContainEqual([
    'EACCES',
    'the image has this file, and its original cannot be read',
  ]);
});
