import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { endsAtOnce, eventually, plant, REQUEST, startFolderLab } from '../lab/request-folder.ts';

/** What may happen to the folder itself: floods, faults of its disk, answers that cannot be written. */

const isRoot = process.getuid?.() === 0;

describe('the folder', () => {
  test('takes 10,000 at once, each one time, and no more at a time than it may', async () => {
    let running = 0;
    let most = 0;
    await using lab = await startFolderLab({
      light: true,
      config: { concurrent: 3, sweepMs: 60_000 },
      execute: async (captureId, request, hooks) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setImmediate(resolve));
        running -= 1;
        return await endsAtOnce(captureId, request, hooks);
      },
    });
    const names = Array.from({ length: 10_000 }, (_, index) => `r${String(index).padStart(5, '0')}.json`);
    for (const name of names) plant(lab, name);
    await eventuallyLong(() => expect(lab.begun.length).toBeGreaterThanOrEqual(names.length));
    await lab.trigger.settled();
    expect(lab.begun).toHaveLength(names.length);
    expect(new Set(lab.begun.map(({ captureId }) => captureId)).size).toBe(names.length);
    expect(lab.names().filter((name) => name.endsWith('.answer.json'))).toHaveLength(names.length);
    expect(most).toBeLessThanOrEqual(3);
  }, 240_000);

  test('that is removed and made anew goes on', async () => {
    await using lab = await startFolderLab();
    await lab.trigger.settled();
    rmSync(lab.folder, { recursive: true });
    await eventually(() => expect(lab.log()).toMatch(/is not there/));
    mkdirSync(lab.folder, { mode: 0o700 });
    lab.put('web.json', REQUEST);
    await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
    await lab.trigger.settled();
    lab.put('later.json', REQUEST);
    await eventually(() => expect(lab.answer('later.json')?.state).toBe('complete'));
  });

  test.each([
    ['that others can write', (folder: string) => chmodSync(folder, 0o770), /can be written by others.*chmod go-w/],
    [
      'that is a link',
      (folder: string) => {
        renameSync(folder, `${folder}.real`);
        symlinkSync(`${folder}.real`, folder);
      },
      /symbolic link/,
    ],
    [
      'whose parent others can write',
      (folder: string) => chmodSync(path.dirname(folder), 0o777),
      /requests-[^/]* can be/,
    ],
  ])('%s takes nothing, says why, and goes on when that is mended', async (_what, spoil, words) => {
    await using lab = await startFolderLab();
    await lab.trigger.settled();
    spoil(lab.folder);
    plant(lab, 'web.json');
    await eventually(() => expect(lab.log()).toMatch(words));
    expect(lab.begun).toEqual([]);
    if (lstatSync(lab.folder).isSymbolicLink()) {
      unlinkSync(lab.folder);
      renameSync(`${lab.folder}.real`, lab.folder);
    }
    chmodSync(lab.folder, 0o700);
    chmodSync(path.dirname(lab.folder), 0o700);
    await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
  });

  test.each([
    ['a link to somewhere else', (at: string, elsewhere: string) => symlinkSync(elsewhere, at)],
    ['a file', (at: string) => writeFileSync(at, '')],
    [
      'a folder that others can write',
      (at: string) => {
        mkdirSync(at);
        chmodSync(at, 0o777);
      },
    ],
  ])('whose rejected/ is %s moves nothing there', async (_what, spoil) => {
    await using lab = await startFolderLab();
    const elsewhere = path.join(lab.folder, '..', 'elsewhere');
    mkdirSync(elsewhere);
    spoil(path.join(lab.folder, 'rejected'), elsewhere);
    plant(lab, 'bad.json', '{}');
    plant(lab, 'good.json');
    await eventually(() => expect(lab.answer('good.json')?.state).toBe('complete'));
    await eventually(() => expect(lab.log()).toMatch(/rejected\/ is not a folder/));
    expect([readdirSync(elsewhere), existsSync(path.join(lab.folder, 'bad.json'))]).toEqual([[], true]);
  });

  test('whose answer’s name is a link writes over the link, not over what it leads to', async () => {
    await using lab = await startFolderLab();
    const victim = path.join(lab.folder, '..', 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, path.join(lab.folder, 'web.json.answer.json'));
    lab.put('web.json', REQUEST);
    await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
    expect(readFileSync(victim, 'utf8')).toBe('precious');
  });

  test('with a folder at the answer’s name captures all the same, and answers when it is gone', async () => {
    await using lab = await startFolderLab();
    const at = path.join(lab.folder, 'web.json.answer.json');
    mkdirSync(at);
    lab.put('web.json', REQUEST);
    await eventually(() => expect(lab.log()).toMatch(/answer not written/));
    await lab.trigger.settled();
    rmSync(at, { recursive: true });
    await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
    expect(lab.begun).toHaveLength(1);
  });

  test('forgets answered requests and rejected ones after their time, and rejected ones beyond their number', async () => {
    let now = Date.now();
    await using lab = await startFolderLab({ now: () => now, config: { answersKeptMs: 60_000, rejectedKept: 3 } });
    lab.put('web.json', REQUEST);
    for (let index = 0; index < 8; index += 1) lab.put(`bad${index}.json`, '{}');
    await lab.trigger.settled();
    await eventually(() => expect(lab.rejected()).toHaveLength(6));
    expect(lab.answer('web.json')?.state).toBe('complete');
    now += 61_000;
    await eventually(() => expect(lab.names()).toEqual(['rejected']));
    now += 8 * 86_400_000;
    await eventually(() => expect(lab.rejected()).toEqual([]));
    expect(lab.begun).toHaveLength(1);
  });

  test('with files that vanish and are swapped all the time never fails', async () => {
    await using lab = await startFolderLab({ config: { settleMs: 100 } });
    const secret = path.join(lab.folder, '..', 'secret.json');
    writeFileSync(secret, JSON.stringify({ target: 'secret/secret' }), { mode: 0o600 });
    const at = path.join(lab.folder, 'flicker.json');
    const until = Date.now() + 2000;
    while (Date.now() < until) {
      plant(lab, 'flicker.json');
      await new Promise((resolve) => setImmediate(resolve));
      rmSync(at, { force: true });
      symlinkSync(secret, at);
      await new Promise((resolve) => setImmediate(resolve));
      rmSync(at, { force: true });
    }
    lab.put('last.json', REQUEST);
    await eventually(() => expect(lab.answer('last.json')?.state).toBe('complete'));
    expect(lab.begun.some(({ request }) => request.selector.includes('secret'))).toBe(false);
  });

  test.skipIf(!isRoot)(
    'on a full disk captures first and answers when there is room (needs root to mount a tmpfs)',
    async (context) => {
      await using lab = await startFolderLab();
      await lab.trigger.settled();
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'exhibit-test', lab.folder], {
          stdio: 'pipe',
        });
      } catch {
        context.skip('needs the right to mount a tmpfs');
      }
      try {
        lab.put('web.json', REQUEST);
        // Fewer pages are left than an answer needs.
        let filled = 0;
        try {
          for (; filled < 64; filled += 1) writeFileSync(path.join(lab.folder, `.fill${filled}`), Buffer.alloc(4096));
        } catch {}
        await eventually(() => expect(lab.begun).toHaveLength(1));
        if (lab.answer('web.json') === undefined)
          await eventually(() => expect(lab.log()).toMatch(/answer not written/));
        for (let index = 0; index <= filled; index += 1)
          rmSync(path.join(lab.folder, `.fill${index}`), { force: true });
        await eventually(() => expect(lab.answer('web.json')?.state).toBe('complete'));
        expect(lab.begun).toHaveLength(1);
      } finally {
        await lab.captures.drain(0);
        await lab.trigger[Symbol.asyncDispose]();
        execFileSync('umount', ['-l', lab.folder]);
      }
    },
  );

  test.skipIf(!isRoot)('that is read-only captures what is in it, once (needs root to mount)', async (context) => {
    await using lab = await startFolderLab();
    await lab.trigger.settled();
    try {
      execFileSync('mount', ['--bind', lab.folder, lab.folder], { stdio: 'pipe' });
    } catch {
      context.skip('needs the right to mount');
    }
    try {
      await lab.captures.drain(0);
      lab.put('web.json', REQUEST);
      plant(lab, 'bad.json', '{}');
      execFileSync('mount', ['-o', 'remount,ro,bind', lab.folder]);
      await using second = await lab.again();
      await eventually(() => expect(second.begun).toHaveLength(1));
      await eventually(() => expect(second.log()).toMatch(/answer not written/));
      await second.trigger.settled();
      execFileSync('mount', ['-o', 'remount,rw,bind', lab.folder]);
      await eventually(() => expect(second.answer('web.json')?.state).toBe('complete'));
      expect(second.begun).toHaveLength(1);
      execFileSync('umount', ['-l', lab.folder]);
    } finally {
      if (existsSync(lab.folder) && readFileSync('/proc/self/mounts', 'utf8').includes(` ${lab.folder} `))
        execFileSync('umount', ['-l', lab.folder]);
    }
  });

  test('with a time that no UUID can hold is taken', async () => {
    await using lab = await startFolderLab();
    const file = path.join(lab.folder, '.old.tmp');
    writeFileSync(file, JSON.stringify(REQUEST), { mode: 0o600 });
    utimesSync(file, -1e9, -1e9);
    renameSync(file, path.join(lab.folder, 'old.json'));
    await eventually(() => expect(lab.answer('old.json')?.state).toBe('complete'));
    expect(lab.begun[0]?.captureId).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

function eventuallyLong(check: () => void): Promise<void> {
  return vi.waitFor(check, { timeout: 200_000, interval: 200 });
}
