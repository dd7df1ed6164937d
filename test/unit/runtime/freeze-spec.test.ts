import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { Cgroup } from '../../../agent/host/cgroup.ts';
import { chooseFreeze, type FreezeMethod, freezeSpec, runtimePause } from '../../../agent/runtime/inspect.ts';
import { asPid, type FreezeSpec, type Target } from '../../../agent/runtime/runtime.ts';

/** Which way a container is stopped, by what it has and what the configuration says. */

const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-freeze-spec-'));
for (const name of ['cgroup.freeze', 'freezer.state']) writeFileSync(path.join(folder, name), '');
afterAll(() => rmSync(folder, { recursive: true }));

const HOST = { procRoot: '/proc', hostRoot: '' };
const CONTAINERD = { kind: 'containerd', socket: '/s', namespace: 'k8s.io', containerId: 'c1' } as const;

const cgroup = (version: 1 | 2, where = folder): Cgroup => ({ version, path: '/c1', folder: where, hasFreezer: true });

const decide = (method: FreezeMethod | undefined, own: Cgroup | undefined, pids = [asPid(1)]) =>
  freezeSpec(HOST, { socket: '/s', namespace: 'k8s.io', method }, { id: 'c1', pids, cgroup: own });

test.each<[string, FreezeMethod | undefined, Cgroup | undefined, FreezeSpec | undefined]>([
  ['version 2 by default', undefined, cgroup(2), { kind: 'cgroup-v2', path: folder }],
  ['version 2 by auto', 'auto', cgroup(2), { kind: 'cgroup-v2', path: folder }],
  ['the runtime where there is no cgroup of its own', 'auto', undefined, CONTAINERD],
  [
    'the runtime where only version 1 is there',
    'auto',
    cgroup(1),
    { ...CONTAINERD, cgroup: { version: 1, path: folder } },
  ],
  [
    'the runtime where the freezer cannot be written',
    'auto',
    cgroup(2, '/nowhere'),
    { ...CONTAINERD, cgroup: { version: 2, path: '/nowhere' } },
  ],
  ['the runtime when told', 'runtime', cgroup(2), { ...CONTAINERD, cgroup: { version: 2, path: folder } }],
  ['version 1 when told', 'cgroup', cgroup(1), { kind: 'cgroup-v1', path: folder }],
  ['nothing when told cgroup and there is none', 'cgroup', undefined, undefined],
])('%s', async (_, method, own, expected) => {
  const { freeze, notes } = await decide(method, own);
  expect(freeze).toEqual(expected);
  expect(notes).toHaveLength(expected === undefined ? 1 : 0);
});

test("the agent's own container is never stopped, whatever the method", async () => {
  for (const method of ['auto', 'runtime', 'cgroup'] as const) {
    const { freeze, notes } = await decide(method, cgroup(2), [asPid(process.pid)]);
    expect(freeze).toBeUndefined();
    expect(notes.join()).toContain('cannot stop');
  }
});

test('what the runtime itself has paused is resumed by it, with the freezer as the last resort', () => {
  const target = (freeze: FreezeSpec | undefined) => ({ record: { id: 'c1' }, freeze }) as Target;
  const pausing = { socket: '/s', namespace: 'k8s.io' };
  expect(runtimePause(pausing, target({ kind: 'cgroup-v2', path: '/f' }))).toEqual({
    ...CONTAINERD,
    cgroup: { version: 2, path: '/f' },
  });
  expect(runtimePause(pausing, target(undefined))).toEqual(CONTAINERD);
  expect(runtimePause(pausing, target(CONTAINERD))).toBe(CONTAINERD);
});

test('a container of Docker is paused by Docker where the kernel’s freezer is not taken', async () => {
  const pause = { kind: 'docker', socket: '/d', containerId: 'c1' } as const;
  const choose = (method: FreezeMethod, own: Cgroup | undefined) =>
    chooseFreeze(HOST, method, { id: 'c1', pids: [asPid(1)], cgroup: own }, pause);
  expect((await choose('auto', cgroup(2))).freeze).toEqual({ kind: 'cgroup-v2', path: folder });
  expect((await choose('auto', undefined)).freeze).toEqual(pause);
  expect((await choose('auto', cgroup(1))).freeze).toEqual({ ...pause, cgroup: { version: 1, path: folder } });
  expect((await choose('runtime', cgroup(2))).freeze).toEqual({ ...pause, cgroup: { version: 2, path: folder } });
});
