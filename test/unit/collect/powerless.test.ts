import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { BpfReading } from '../../../agent/host/bpf-read.ts';
import type { NetfilterReading } from '../../../agent/host/netfilter-read.ts';
import { namespaceObstacle } from './namespace.ts';

const AGENT = path.resolve(import.meta.dirname, '../../../agent');
const obstacle = namespaceObstacle('setpriv');

/** Runs a module of this program as root without some of root's capabilities; it prints JSON. */
function without(capabilities: string, script: string): unknown {
  const bounds = capabilities
    .split(' ')
    .map((name) => `-${name}`)
    .join(',');
  const argv = ['--bounding-set', bounds, process.execPath, '--input-type=module', '-e', script];
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
});
