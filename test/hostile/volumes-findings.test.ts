import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Target } from '../../agent/runtime/runtime.ts';
import { findingSchema } from '../../evidence/file-finding.ts';
import { startVictim, type TakenVolumes, takeVolumes } from '../unit/collect/mount-victim.ts';
import { eachWithVolume, folder, out, python, vol } from './volume-lab.ts';

/** What an attacker hides in a volume is told of it, on one line each. */

eachWithVolume();

describe('what is told of files in a volume', () => {
  const findingsOf = (taken: TakenVolumes) =>
    taken
      .content('volumes.findings.jsonl.zst')
      .toString()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => findingSchema.parse(JSON.parse(line)));

  test('keeps names of any bytes on one line, with the number of the mount', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}`);
    python(
      victim,
      String.raw`
for name in (b'\xff\xfe', b'a\nb', b'\x1b[31mred', b'__proto__'):
    with open(name, 'wb') as f: f.write(b'\x7fELF' + name)
    os.chmod(name, 0o4755)`,
    );
    const taken = await takeVolumes(out(), victim);
    const found = findingsOf(taken).filter(({ kind }) => kind === 'set-id');
    const inVolume = (name: Buffer) => Buffer.concat([Buffer.from(`${vol.slice(1)}/`), name]);
    expect(found.map((one) => one.pathBase64 ?? one.path).sort()).toEqual(
      [
        inVolume(Buffer.from([0xff, 0xfe])).toString('base64'),
        ...['\x1b[31mred', '__proto__', 'a\nb'].map((name) => inVolume(Buffer.from(name)).toString()),
      ].sort(),
    );
    expect(new Set(found.map(({ volume }) => volume))).toEqual(new Set([taken.volumeAt(vol).volume]));
  });

  test('has the first bytes of files that were too large to store, and of none that may not be read', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}`);
    python(victim, `open('large', 'wb').write(b'\\x7fELF' + bytes(5000)); os.chmod('large', 0o700)`);
    const small = { fileBytes: 4096 };
    const few = findingsOf(await takeVolumes(out(), victim, { policy: small }));
    expect(few.map(({ kind, reasons }) => [kind, reasons.slice(0, 2)])).toEqual([
      ['executable-in-writable-place', ['elf', 'execute-permission']],
      ['executable-not-in-image', ['elf', 'execute-permission']],
    ]);
    expect(few[1]?.reasons).toContain('image-not-searched');
    expect(findingsOf(await takeVolumes(path.join(folder, 'none'), victim, { policy: { content: [] } }))).toEqual([]);
  });

  test('is nothing of an unpacked archive, and one line of a file that was dated by itself', async () => {
    await using victim = await startVictim(`mount -t tmpfs none ${vol}`);
    python(
      victim,
      `
for i in range(300):
    open('f%d' % i, 'w').write('x'); os.utime('f%d' % i, (1, 1))`,
    );
    expect(findingsOf(await takeVolumes(out(), victim))).toEqual([]);
    victim.run(`rm ${vol}/*; echo x > ${vol}/one; touch -d @1 ${vol}/one`);
    const alone = findingsOf(await takeVolumes(path.join(folder, 'two'), victim));
    expect(alone.map(({ kind, severity, path: where }) => [kind, severity, where])).toEqual([
      ['timestomped', 'low', `${vol.slice(1)}/one`],
    ]);
  });

  test('of the node is what came after the pod, also when the container was started again, where it may write', async () => {
    const home = path.join(folder, 'home');
    mkdirSync(path.join(home, '.ssh'), { recursive: true });
    writeFileSync(path.join(home, '.ssh', 'authorized_keys'), 'key');
    await using victim = await startVictim(`mount --bind ${home} ${vol}`);
    const hour = 3_600_000;
    const restarted = { createdAt: new Date(Date.now() + hour).toISOString() };
    const ofPod = { ...restarted, podCreatedAt: new Date(Date.now() - hour).toISOString() };
    const told = async (name: string, target: Partial<Target>) =>
      findingsOf(await takeVolumes(path.join(folder, name), victim, {}, target));
    const [found] = await told('pod', ofPod);
    expect(found).toMatchObject({
      kind: 'persistence',
      severity: 'high',
      reasons: ['ssh-key', 'on-node'],
      path: `${vol.slice(1)}/.ssh/authorized_keys`,
      nodePath: `${home.slice(1)}/.ssh/authorized_keys`,
    });
    expect(await told('container', restarted)).toEqual([]);
    victim.run(`mount -o remount,bind,ro ${vol}`);
    expect(await told('read-only', ofPod)).toEqual([]);
  });
});
