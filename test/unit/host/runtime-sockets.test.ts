import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findRuntimeSockets } from '../../../agent/host/runtime-sockets.ts';

let root: string;
const servers: Server[] = [];
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-rt-'));
});
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
  rmSync(root, { recursive: true, force: true });
});

async function socketAt(file: string): Promise<void> {
  mkdirSync(path.dirname(`${root}${file}`), { recursive: true });
  const server = createServer().listen(`${root}${file}`);
  servers.push(server);
  await once(server, 'listening');
}

const find = (kind: 'cri' | 'docker', configured: string) =>
  findRuntimeSockets({ procRoot: '/proc', hostRoot: root }, { kind, path: configured });

describe('the runtimes of a node', () => {
  test('are those whose sockets it has', async () => {
    await socketAt('/run/docker.sock');
    await socketAt('/run/k3s/containerd/containerd.sock');
    expect(await find('cri', '/run/containerd/containerd.sock')).toEqual([
      { kind: 'cri', path: '/run/k3s/containerd/containerd.sock' },
      { kind: 'docker', path: '/run/docker.sock' },
    ]);
  });

  test('are found through an absolute link that means the node’s own /run, once', async () => {
    await socketAt('/run/docker.sock');
    mkdirSync(`${root}/var`);
    symlinkSync('/run', `${root}/var/run`);
    expect(await find('docker', '/var/run/docker.sock')).toEqual([{ kind: 'docker', path: '/run/docker.sock' }]);
  });

  test('are where the configuration says, too', async () => {
    await socketAt('/opt/own.sock');
    expect(await find('cri', '/opt/own.sock')).toEqual([{ kind: 'cri', path: '/opt/own.sock' }]);
  });

  test('are no files, folders, or links in circles of these names', async () => {
    mkdirSync(`${root}/run/crio`, { recursive: true });
    mkdirSync(`${root}/run/containerd`, { recursive: true });
    writeFileSync(`${root}/run/crio/crio.sock`, '');
    mkdirSync(`${root}/run/docker.sock`);
    symlinkSync('containerd.sock', `${root}/run/containerd/containerd.sock`);
    expect(await find('cri', '/run/containerd/containerd.sock')).toEqual([]);
    expect(
      await findRuntimeSockets({ procRoot: '/proc', hostRoot: '/nonexistent' }, { kind: 'cri', path: '/x' }),
    ).toEqual([]);
  });
});
