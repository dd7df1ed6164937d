import { appendFile, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { diffSchema } from '../../../evidence/diff/document.ts';
import { process, socket, webBundle } from '../evidence/diff/facts-bundle.ts';
import { inventoryLine, type TimelineBundle, timelineBundle } from '../evidence/timeline/timeline-bundle.ts';
import { exhibit, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

let before: TimelineBundle;
let after: TimelineBundle;
beforeAll(async () => {
  before = await timelineBundle(webBundle({ artifacts: { node: { status: 'skipped', reason: 'no need' } } }));
  after = await timelineBundle(
    webBundle({
      processes: [
        process(7, '/usr/bin/web', { commandLine: ['web', '-v'] }),
        process(8, '/tmp/evil', { commandLine: ['evil'] }),
      ],
      sockets: [socket({}), socket({ localPort: 4444, owners: [{ pid: 8, fd: 3 }] })],
      files: [inventoryLine({ path: 'tmp/evil', mode: '755' })],
    }),
  );
});
afterAll(async () => {
  await before[Symbol.asyncDispose]();
  await after[Symbol.asyncDispose]();
});

describe('diff', () => {
  test('says first that nothing was verified, then what is conspicuous, then each kind', async () => {
    const { code, stdout, stderr } = await exhibit(['diff', before.folder, after.folder]);
    expect({ code, stderr }).toEqual({ code: 4, stderr: '' });
    const lines = stdout.toString().split('\n');
    expect(lines[0]).toMatch(/^before +not verified: /);
    expect(lines[2]).toMatch(/^after +not verified: /);
    expect(lines.slice(5, 9).map((line) => line.split(/ {2,}/).slice(0, 3).join('|'))).toEqual([
      'SEVERITY|WHY|KIND',
      'high|executable-not-in-image|processes',
      'high|new-port|ports',
      'medium|new-command|processes',
    ]);
    expect(lines).toContain('processes: 1 new, 1 changed');
    expect(lines).toContain(`  ~ /usr/bin/web sha256:${'a'.repeat(64)}: commands +"web -v" -"/usr/bin/web"`);
    expect(lines).toContain('  + tcp 10.0.0.7:4444: executables "/tmp/evil"');
    expect(lines).toContain('  - in tcp 10.0.0.9 to port 80: executables "/usr/bin/web"');
    expect(lines).toContain('modules: NOT COMPARED');
    expect(lines).toContain('  before: node was skipped: no need');
    expect(lines).toContain('libraries: the same');
  });

  test('ends with 0 when nothing differs in what was compared', async () => {
    expect((await exhibit(['diff', before.folder, before.folder])).code).toBe(0);
    expect((await exhibit(['diff', before.folder, after.folder, '--only', 'libraries,users'])).code).toBe(0);
  });

  test('has one JSON document of the documented shape', async () => {
    const { stdout } = await exhibit(['diff', before.folder, after.folder, '--json', '--only', 'ports,files']);
    const { version, verified, ...document } = JSON.parse(stdout.toString());
    expect(version).toBe(1);
    expect(verified).toEqual({
      before: { url: expect.stringContaining(before.folder), verified: 'not verified' },
      after: { url: expect.stringContaining(after.folder), verified: 'not verified' },
    });
    expect(Object.keys(diffSchema.parse(document).kinds)).toEqual(['ports', 'files']);
    expect(document.kinds.files.new.map(({ key }: { key: string }) => key)).toEqual(['/tmp/evil']);
  });

  test('verifies both where it is asked to, and ends with 1 when one is not what was sealed', async () => {
    const good = await exhibit(['diff', before.folder, after.folder, '--verify', '--json']);
    expect(good.code).toBe(4);
    expect(JSON.parse(good.stdout.toString()).verified.after.verified).toMatch(/^INTACT, sealed by /);
    await using broken = await timelineBundle(webBundle());
    await appendFile(path.join(broken.folder, 'node.tar.zst'), 'x');
    const bad = await exhibit(['diff', before.folder, broken.folder, '--verify', '--only', 'users']);
    expect(bad.code).toBe(1);
    expect(bad.stdout.toString()).toMatch(/^after +NOT INTACT: /m);
  });

  test('writes a page, and overwrites none', async () => {
    const page = path.join(after.folder, '..', `${path.basename(after.folder)}.html`);
    const written = await exhibit(['diff', before.folder, after.folder, '--html', page]);
    expect(written).toMatchObject({ code: 4, stderr: `exhibit: ${page} is written\n` });
    expect(written.stdout.length).toBe(0);
    const html = await readFile(page, 'utf8');
    expect(html).toContain('<code>/tmp/evil sha256:');
    expect(html).toContain('not verified');
    expect((await exhibit(['diff', before.folder, after.folder, '--html', page])).code).toBe(2);
  });

  test.each([
    [['--only', 'sockets'], 2, '--only knows no sockets'],
    [[], 1, 'there is no folder /nonexistent'],
  ])('says what is wrong with %j', async (options, code, words) => {
    const other = options.length > 0 ? after.folder : '/nonexistent';
    const ran = await exhibit(['diff', before.folder, other, ...options]);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toContain(words);
  });
});
