import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { BpfReading } from '../../../agent/host/bpf-read.ts';
import type { NetfilterReading } from '../../../agent/host/netfilter-read.ts';
import { namespaceObstacle } from './namespace.ts';

const AGENT = path.resolve(import.meta.dirname, '../../../agent');
const obstacle = namespaceObstacle('setpriv');

/** Runs a module of this program as root without some of root's capabilities; it prints JSON. */
function without(capabilities: string, script: string): unknown {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-powerless-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  // Not by --eval: threads inherit the options of node, and cannot be started with that one.
  const file = path.join(folder, 'script.mjs');
  writeFileSync(file, script);
  const bounds = capabilities
    .split(' ')
    .map((name) => `-${name}`)
    .join(',');
  const argv = ['--bounding-set', bounds, process.execPath, file];
  return JSON.parse(execFileSync('setpriv', argv, { encoding: 'utf8' }));
}

describe.skipIf(obstacle !== undefined)(`root without capabilities (${obstacle ?? 'real'})`, () => {
  test('is refused by bpf(2), once for each kind and not for each object', () => {
    const script = `import { readBpf } from '${AGENT}/host/bpf-read.ts'; console.log(JSON.stringify([...readBpf([], [])]));`;
    const readings = without('sys_admin bpf', script) as BpfReading[];
    expect(readings).toEqual(
      ['programs', 'maps', 'links', 'btfs'].map((kind) => ({ kind: 'failed', what: `bpf ${kind}`, errno: 'EPERM' })),
    );
  });

  const askOwn = `
import { statSync } from 'node:fs';
import { readNetfilter } from '${AGENT}/host/netfilter-read.ts';
import { lookAtKernelParts } from '${AGENT}/host/kernel-presence.ts';
const host = { procRoot: '/proc', hostRoot: '' };
const place = { inode: statSync('/proc/self/ns/net').ino, pids: [process.pid] };
console.log(JSON.stringify(readNetfilter(host, lookAtKernelParts(host), place, true)));`;

  test('is refused by netfilter', () => {
    const readings = without('net_admin', askOwn) as NetfilterReading[];
    const errnos = readings.map(({ reading }) => (reading.kind === 'failed' ? reading.errno : reading.kind));
    expect(errnos.length).toBeGreaterThan(1);
    expect(new Set(errnos)).toEqual(new Set(['EPERM']));
  });

  test('cannot enter a namespace, which is said once', () => {
    expect(without('sys_admin', askOwn)).toEqual([
      { name: 'packet filters', reading: { kind: 'unreachable', errno: 'EPERM' } },
    ]);
  });

  test('cannot copy mounts, which the doctor tells', () => {
    const script = `import { tryMountCopy } from '${AGENT}/host/mount-copy.ts'; console.log(JSON.stringify(await tryMountCopy()));`;
    expect(without('kill', script)).toBe('quiet');
    expect(without('sys_admin', script)).toEqual({ errno: 'EPERM' });
    expect(without('sys_chroot', script)).toEqual({ errno: 'EPERM' });
  });
});
