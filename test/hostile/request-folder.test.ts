import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { ExhibitError } from '../../evidence/error.ts';
import { eventually, plant, REQUEST, startFolderLab } from '../lab/request-folder.ts';

/** Everything that a folder can hold in place of a request, with real files. */

const isRoot = process.getuid?.() === 0;

describe('a request that is renamed into the folder', () => {
  test('starts one capture and is answered with its end', async () => {
    await using lab = await startFolderLab();
    await lab.trigger.settled();
    lab.put('web.json', { ...REQUEST, artifacts: ['network'], scope: 'pod', exhibitNumber: 'E-1', acquirer: 'Ada' });
    const answer = await eventually(() => {
      const found = lab.answer('web.json');
      expect(found?.state).toBe('complete');
      return found;
    });
    expect(lab.begun).toHaveLength(1);
    const [{ captureId, request } = { captureId: '', request: undefined }] = lab.begun;
    expect(request).toMatchObject({
      ...{ selector: 'prod/web-0', caseId: 'CASE-7', reason: 'alert', artifacts: ['network'], scope: 'pod' },
      ...{ exhibitNumber: 'E-1', acquirer: 'Ada', requester: { trigger: 'folder' } },
    });
    const sha256 = execFileSync('sha256sum', [path.join(lab.folder, 'web.json')])
      .toString()
      .slice(0, 64);
    expect(request?.requester.identity).toMatch(new RegExp(`^uid \\d+( \\(\\w+\\))?, web\\.json, sha256 ${sha256}$`));
    expect(answer).toMatchObject({
      ...{ captureId, target: 'prod/web-0/web', bundleUrl: `file:///evidence/${captureId}`, gapCount: 0 },
      request: { name: 'web.json', sha256 },
    });
    expect(statSync(path.join(lab.folder, 'web.json.answer.json')).mode & 0o777).toBe(0o600);
  });

  test('may be YAML, and may have lain there before the agent came', async () => {
    await using first = await startFolderLab();
    await first.trigger.settled();
    await first.captures.drain(0);
    first.put('web.yaml', 'selector:\n  pod: { namespace: prod, pod: web-0 }\nartifacts: [processes]\n');
    await using lab = await first.again();
    await eventually(() => expect(lab.answer('web.yaml')?.state).toBe('complete'));
    expect(lab.begun.map(({ request }) => request.selector)).toEqual(['prod/web-0']);
  });

  test.each([
    ['a name that begins with a dot', '.web.json'],
    ['the name of a temporary file', 'web.json.tmp'],
    ['the name of an answer', 'web.answer.json'],
  ])('under %s is left alone', async (_what, name) => {
    await using lab = await startFolderLab();
    plant(lab, name);
    await lab.trigger.settled();
    expect([lab.begun, existsSync(path.join(lab.folder, name))]).toEqual([[], true]);
  });

  test('and cannot be captured is answered with the reason, and stays', async () => {
    const execute = () => Promise.reject(new ExhibitError('target-not-found', 'There is no pod prod/web-0'));
    await using lab = await startFolderLab({ execute });
    lab.put('web.json', REQUEST);
    await eventually(() =>
      expect(lab.answer('web.json')).toMatchObject({ state: 'refused', error: 'There is no pod prod/web-0' }),
    );
    await lab.trigger.settled();
    expect([lab.begun.length, lab.names().sort()]).toEqual([1, ['web.json', 'web.json.answer.json']]);
  });

  test('is another request when it is put there again with other words, and not when it is only looked at', async () => {
    await using lab = await startFolderLab();
    lab.put('web.json', REQUEST);
    await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
    await lab.trigger.settled();
    readFileSync(path.join(lab.folder, 'web.json'));
    await lab.trigger.settled();
    expect(lab.begun).toHaveLength(1);
    lab.put('web.json', { ...REQUEST, reason: 'again' });
    await eventually(() => expect(lab.begun).toHaveLength(2));
    await eventually(() => expect(lab.answer('web.json')?.captureId).toBe(lab.begun[1]?.captureId));
    expect(lab.begun[0]?.captureId).not.toBe(lab.begun[1]?.captureId);
  });
});

describe('what is no request', () => {
  test.each([
    ['nothing', '', /JSON/],
    ['half of a request', '{"target": "prod/web-0', /JSON/],
    ['an unknown key', '{"target": "prod/web-0", "url": "s3://thief"}', /unknown key "url"/],
    ['a key twice', '{"target": "prod/web-0", "target": "prod/db-0"}', /"target" twice/],
    ['no target', '{"case": "C"}', /either target or selector/],
    ['two targets', '{"target": "a/b", "selector": {"containerId": "abcd"}}', /either target or selector/],
    ['a sink that there is not', '{"target": "prod/web-0", "sinks": ["thief"]}', /no sink "thief"/],
    ['an artifact that there is not', '{"target": "prod/web-0", "artifacts": ["soul"]}', /no artifact soul/],
    ['a list', '[]', /object/],
    ['a proto', '{"target": "prod/web-0", "__proto__": {"sinks": []}}', /unknown key/],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), /UTF-8/],
    ['deep nesting', '['.repeat(30_000), /nests deeper/],
    ['an id that is none', '{"target": "prod/web-0", "captureId": "x"}', undefined],
  ])('%s is moved away with its reason', async (_what, content, reason) => {
    await using lab = await startFolderLab();
    lab.put('bad.json', content.toString('latin1' as never));
    if (Buffer.isBuffer(content)) writeFileSync(path.join(lab.folder, 'bad.json'), content, { mode: 0o600 });
    await lab.trigger.settled();
    if (reason === undefined) {
      expect(lab.answer('bad.json')).toMatchObject({ state: 'refused', error: expect.stringContaining('not a UUID') });
      return;
    }
    expect(lab.names()).toEqual(['rejected']);
    expect(lab.rejected()).toEqual(['bad.json', 'bad.json.reason.json']);
    expect(lab.reason('bad.json')).toMatch(reason);
    expect(lab.begun).toEqual([]);
  });

  test.each([
    ['an alias bomb', `a: &a [x]\nb: &b [${'*a,'.repeat(50)}]\nc: [${'*b,'.repeat(50)}]\n`],
    ['two documents', 'target: a/b\n---\ntarget: c/d\n'],
    ['a tag', 'target: !!js/function "x"\n'],
    ['a key twice', 'target: a/b\ntarget: c/d\n'],
  ])('YAML with %s is moved away', async (_what, content) => {
    await using lab = await startFolderLab();
    lab.put('bad.yaml', content);
    await lab.trigger.settled();
    expect(lab.rejected()).toEqual(['bad.yaml', 'bad.yaml.reason.json']);
    expect(lab.begun).toEqual([]);
  });

  test('a huge file is moved away unread, sparse or not', async () => {
    await using lab = await startFolderLab();
    truncateSync(plant(lab, 'sparse.json'), 2 ** 40);
    plant(lab, 'large.json', JSON.stringify({ ...REQUEST, reason: 'x'.repeat(64 * 1024) }));
    await lab.trigger.settled();
    expect(lab.reason('sparse.json')).toMatch(/1099511627776 bytes long; 65536 is the most/);
    expect(lab.reason('large.json')).toMatch(/65536 is the most/);
    expect(lab.begun).toEqual([]);
  });

  test('the largest that is allowed is taken', async () => {
    await using lab = await startFolderLab();
    const room = 64 * 1024 - JSON.stringify(REQUEST).length;
    plant(lab, 'full.json', JSON.stringify(REQUEST) + ' '.repeat(room));
    await lab.trigger.settled();
    expect(statSync(path.join(lab.folder, 'full.json')).size).toBe(64 * 1024);
    expect(lab.begun).toHaveLength(1);
  });

  test('a link, a FIFO, a socket and a folder are not followed, opened or entered', async () => {
    await using lab = await startFolderLab();
    const outside = path.join(lab.folder, '..', 'outside.json');
    writeFileSync(outside, JSON.stringify(REQUEST), { mode: 0o600 });
    symlinkSync(outside, path.join(lab.folder, 'link.json'));
    symlinkSync('/dev/zero', path.join(lab.folder, 'zero.json'));
    symlinkSync('loop.json', path.join(lab.folder, 'loop.json'));
    execFileSync('mkfifo', [path.join(lab.folder, 'fifo.json')]);
    const server = net.createServer().listen(path.join(lab.folder, 'socket.json'));
    mkdirSync(path.join(lab.folder, 'folder.json'));
    writeFileSync(path.join(lab.folder, 'folder.json', 'inner.json'), JSON.stringify(REQUEST));
    try {
      await eventually(() => expect(lab.rejected()).toContain('socket.json.reason.json'));
      await lab.trigger.settled();
    } finally {
      server.close();
    }
    for (const name of ['link', 'zero', 'loop', 'fifo', 'socket']) {
      expect(lab.reason(`${name}.json`)).toMatch(/is a (symbolic link|FIFO|socket), not a file/);
    }
    expect(lab.reason('folder.json')).toMatch(/is a folder/);
    // A folder is not ours to move.
    expect(lab.names().sort()).toEqual(['folder.json', 'rejected']);
    expect(lstatSync(path.join(lab.folder, 'rejected', 'link.json')).isSymbolicLink()).toBe(true);
    expect(readFileSync(outside, 'utf8')).toBe(JSON.stringify(REQUEST));
    expect(lab.begun).toEqual([]);
    expect(lab.rejected().filter((name) => name.includes('folder'))).toHaveLength(1);
  });

  test.skipIf(!isRoot)('a device is not opened (needs root)', async () => {
    await using lab = await startFolderLab();
    execFileSync('mknod', [path.join(lab.folder, 'device.json'), 'c', '1', '5']);
    await lab.trigger.settled();
    expect(lab.reason('device.json')).toMatch(/is a device/);
  });

  test('a hard link is refused, and taken when its other name goes', async () => {
    await using lab = await startFolderLab({ config: { settleMs: 400 } });
    const other = path.join(lab.folder, '..', 'other');
    writeFileSync(other, JSON.stringify(REQUEST), { mode: 0o600 });
    linkSync(other, path.join(lab.folder, 'kept.json'));
    const brief = path.join(lab.folder, '..', 'brief');
    writeFileSync(brief, JSON.stringify(REQUEST), { mode: 0o600 });
    linkSync(brief, path.join(lab.folder, 'brief.json'));
    unlinkSync(brief);
    await eventually(() => expect(lab.answer('brief.json')?.state).toBe('complete'));
    await eventually(() => expect(lab.reason('kept.json')).toMatch(/hard link/));
    expect(lab.begun).toHaveLength(1);
  });

  test.skipIf(!isRoot)('a file of somebody else, or that others can write, is refused (needs root)', async () => {
    await using lab = await startFolderLab({ config: { owners: [4321] } });
    chownSync(plant(lab, 'stranger.json'), 1234, 0);
    chmodSync(plant(lab, 'group.json'), 0o620);
    chmodSync(plant(lab, 'others.json'), 0o602);
    chownSync(plant(lab, 'known.json'), 4321, 0);
    await lab.trigger.settled();
    expect(lab.reason('stranger.json')).toMatch(/belongs to uid 1234/);
    expect(lab.reason('group.json')).toMatch(/mode 0620/);
    expect(lab.reason('others.json')).toMatch(/mode 0602/);
    expect(lab.begun.map(({ request }) => request.requester.identity.slice(0, 9))).toEqual(['uid 4321,']);
    // Who may ask may read the answer.
    expect(statSync(path.join(lab.folder, 'known.json.answer.json')).uid).toBe(4321);
  });

  test('a name that is not UTF-8, has control characters or is very long is refused, and lands under a name that is harmless', async () => {
    await using lab = await startFolderLab();
    const names = [
      Buffer.from('a\nb.json'),
      Buffer.from('\x1b[2J.json'),
      Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from('.json')]),
      Buffer.from(`${'n'.repeat(250)}.json`),
      Buffer.from('a‮nosj.json'),
      Buffer.from('`rm -rf`.json'),
    ];
    for (const name of names)
      writeFileSync(Buffer.concat([Buffer.from(`${lab.folder}/`), name]), JSON.stringify(REQUEST), { mode: 0o600 });
    await lab.trigger.settled();
    expect(lab.names()).toEqual(['rejected']);
    const rejected = readdirSync(path.join(lab.folder, 'rejected'));
    expect(rejected).toHaveLength(2 * names.length);
    expect(rejected.every((name) => /^unnamed-[0-9a-f]{16}\.json(\.reason\.json)?$/.test(name))).toBe(true);
    const told = rejected
      .filter((name) => name.endsWith('.reason.json'))
      .map(
        (name) => JSON.parse(readFileSync(path.join(lab.folder, 'rejected', name), 'utf8')) as { nameBase64: string },
      )
      .map(({ nameBase64 }) => nameBase64);
    expect(told.sort()).toEqual(names.map((name) => name.toString('base64')).sort());
    expect(lab.begun).toEqual([]);
    expect(lab.log()).not.toContain('\x1b');
  });

  test('of names in any script is taken', async () => {
    await using lab = await startFolderLab();
    lab.put('Akte 7 – größe.json'.replace(' – ', '-'), REQUEST);
    lab.put('案件.json', REQUEST);
    await lab.trigger.settled();
    expect(lab.answer('案件.json')?.state).toBe('complete');
    expect(lab.begun).toHaveLength(2);
  });
});

describe('a file that is written in place', () => {
  test('is taken when it is whole, in however many pieces it came', async () => {
    await using lab = await startFolderLab({ config: { settleMs: 500, halfWrittenMs: 60_000 } });
    await lab.trigger.settled();
    const yaml = 'target: prod/web-0\nartifacts: [network]\nconsistency: frozen\n';
    const file = plant(lab, 'slow.yaml', yaml.slice(0, 19));
    for (let at = 19; at < yaml.length; at += 10) {
      await new Promise((resolve) => setTimeout(resolve, 60));
      appendFileSync(file, yaml.slice(at, at + 10));
    }
    await eventually(() => expect(lab.answer('slow.yaml')?.state).toBe('complete'));
    expect(lab.begun.map(({ request }) => [request.artifacts, request.consistency])).toEqual([[['network'], 'frozen']]);
  });

  test('and does not end is refused after a bounded time', async () => {
    await using lab = await startFolderLab({ config: { settleMs: 300, halfWrittenMs: 1000 } });
    const file = plant(lab, 'endless.json', '{"target": "prod/web-0", "reason": "');
    const timer = setInterval(() => existsSync(file) && appendFileSync(file, 'x'), 50);
    try {
      await eventually(() => expect(lab.reason('endless.json')).toMatch(/JSON|being written/));
    } finally {
      clearInterval(timer);
    }
    expect(lab.begun).toEqual([]);
  });
});
