import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { parseHierarchies } from '../../../agent/host/cgroup.ts';
import type { Host } from '../../../agent/host/host.ts';

/** fixtures/node/small-node.py: process 1 of mount, pid and network namespaces, with eBPF programs. */
export interface SmallNode extends AsyncDisposable {
  readonly host: Host;
  /** Seen from this machine. */
  readonly pid: number;
  readonly facts: Readonly<Record<string, unknown>>;
  /** A control group of its own in cgroup2, with a program attached; undefined where cgroup2 is not mounted. */
  readonly cgroup: string | undefined;
}

export async function startSmallNode(): Promise<SmallNode> {
  const second = parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8')).find(({ version }) => version === 2);
  const name = `exhibit-test-${process.pid}-${Date.now()}`;
  const folder = second === undefined ? undefined : path.join(second.folder, name);
  if (folder !== undefined) mkdirSync(folder);
  const program = path.resolve(import.meta.dirname, '../fixtures/node/small-node.py');
  const child = spawn(
    'unshare',
    ['--mount', '--pid', '--net', '--fork', '--kill-child', '--mount-proc', 'python3', program, folder ?? '-'],
    { stdio: ['pipe', 'pipe', 'inherit'], env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
  );
  const stop = async (): Promise<void> => {
    const ended = child.exitCode === null ? once(child, 'exit') : undefined;
    child.stdin.end();
    await ended;
    if (folder !== undefined) rmdirSync(folder);
  };
  const [line] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => [''])]);
  if (String(line) === '') {
    await stop();
    throw new Error('the small node did not start');
  }
  const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8');
  const pid = Number(children.trim().split(' ')[0]);
  const hostRoot = `/proc/${pid}/root`;
  return {
    host: { procRoot: `${hostRoot}/proc`, hostRoot },
    pid,
    facts: JSON.parse(String(line)),
    cgroup: folder === undefined ? undefined : `/${name}`,
    [Symbol.asyncDispose]: stop,
  };
}
