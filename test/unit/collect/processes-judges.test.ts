import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { processesCollector } from '../../../agent/collect/processes.ts';
import { fakeContext, type Json, jsonLines, type Written } from './proc-context.ts';

const JUDGES = ['python3', 'ps', 'prlimit', 'getpcaps', 'lsof'];
const missing = JUDGES.filter(
  (name) => !['/bin', '/usr/bin', '/sbin', '/usr/sbin'].some((at) => existsSync(`${at}/${name}`)),
);
const isRoot = process.platform === 'linux' && process.getuid?.() === 0;

const said = (command: string, ...args: string[]): string =>
  execFileSync(command, args, { env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' } })
    .toString()
    .trim();

/** Needs root, and Debian's procps, util-linux, libcap2-bin, lsof and python3 as judges. */
describe.skipIf(!isRoot || missing.length > 0)(
  `beside other programs (skipped without root, or ${JUDGES.join(', ')})`,
  () => {
    const witness = isRoot && missing.length === 0 ? startWitness() : undefined;
    let facts = new Map<string, string>();
    let written: Written;
    let line: Json;
    let child: Json;

    beforeAll(async () => {
      facts = (await witness?.ready) ?? facts;
      const made = fakeContext({ procRoot: '/proc', hostRoot: '' }, [number('pid'), number('child')]);
      await processesCollector().collect(made.context);
      written = made.written;
      const [first, second] = jsonLines(written, 'processes.jsonl');
      if (first === undefined || second === undefined) throw new Error('two processes were asked for');
      [line, child] = [first, second];
    }, 60_000);
    afterAll(() => witness?.end());

    const number = (name: string): number => Number(facts.get(name));
    const ofPs = (...columns: string[]): string[] =>
      columns.map((column) => said('ps', '-o', `${column}=`, '-p', String(number('pid'))));

    test('ps says the same of ids, tree, terminal and start', () => {
      const [ppid, uid, gid, session, tty, nice, threads, started] = ofPs(
        ...['ppid', 'euid', 'egid', 'sid', 'tty', 'nice', 'nlwp', 'lstart'],
      );
      expect(String(line.ppid)).toBe(ppid);
      expect(line.status).toMatchObject({ uids: { effective: Number(uid) }, gids: { effective: Number(gid) } });
      expect(line.stat).toMatchObject({ session: Number(session), nice: Number(nice), threads: Number(threads) });
      expect(String(line.terminal ?? '?')).toBe(tty);
      expect(Math.abs(Date.parse(`${started} UTC`) - Date.parse(String(line.startedAt)))).toBeLessThan(2000);
      expect(line.children).toEqual([number('child')]);
      expect(child).toMatchObject({ depth: 1, stat: { nice: 7 }, status: { noNewPrivileges: true } });
    });

    test('prlimit says the same limits', () => {
      const rows = said('prlimit', '--pid', String(number('pid')), '--noheadings', '--raw', '-o', 'RESOURCE,SOFT,HARD');
      const limits = new Map(
        rows
          .split('\n')
          .map((row) => row.split(' '))
          .map(([name = '', ...values]) => [name, values]),
      );
      expect(line.limits?.['Max open files']).toEqual(limits.get('NOFILE'));
      expect(line.limits?.['Max processes']).toEqual(limits.get('NPROC'));
      expect(line.limits?.['Max core file size']).toEqual(limits.get('CORE'));
    });

    test('getpcaps says the same capabilities', () => {
      const shown = said('sh', '-c', `getpcaps --verbose ${number('pid')} 2>&1 || getpcaps ${number('pid')} 2>&1`);
      const effective = line.status?.capabilities?.effective as unknown as string[];
      const named = new Set(shown.match(/cap_[a-z_]+/g));
      // It prints `=ep` for all, and otherwise names what is there or what is lacking.
      if (/(^|\s)=ep$/.test(shown)) expect(effective).toHaveLength(line.status?.capabilities?.bounding?.length ?? -1);
      else if (/=ep /.test(shown)) expect(effective.filter((name) => named.has(name))).toEqual([]);
      else expect(new Set(effective)).toEqual(named);
    });

    test('lsof says the same descriptors with their inodes and offsets', () => {
      const rows = said('lsof', '-n', '-P', '-o', '-F', 'fin', '-a', '-d', '0-999', '-p', String(number('pid')));
      const shown = new Map<number, string>();
      let fd = -1;
      for (const row of rows.split('\n')) {
        if (row.startsWith('f')) fd = Number(row.slice(1));
        if (row.startsWith('i')) shown.set(fd, row.slice(1));
      }
      const ours = line.descriptors?.map((one) => Number(one.fd)) ?? [];
      expect(ours).toEqual(expect.arrayContaining([...shown.keys()]));
      for (const one of line.descriptors ?? []) {
        const type = String(one.type);
        if (type !== 'pipe' && type !== 'file') continue;
        expect(String(one.inode)).toBe(shown.get(Number(one.fd)));
      }
    });

    test('both ends of the socket pair and both holders of the eventfd find each other', () => {
      const mine = line.descriptors?.find(({ fd }) => Number(fd) === number('left'));
      expect(mine?.peers).toEqual([{ pid: number('child'), fd: expect.any(Number) }]);
      const other = child.descriptors?.find(({ fd }) => Number(fd) === Number(mine?.peers?.[0]?.fd));
      expect(other?.peers).toEqual([{ pid: number('pid'), fd: number('left') }]);
      const event = line.descriptors?.find(({ fd }) => Number(fd) === number('event'));
      expect(event?.sharedWith).toEqual([{ pid: number('child'), fd: number('event') }]);
    });

    test('tracer and tracee name each other', () => {
      expect(line.tracees).toEqual([number('child')]);
      expect(child.tracerPid).toBe(number('pid'));
      expect(child.anomalies?.map(({ kind }) => kind)).toContain('ptraced');
    });

    test('a thread with other ids than its process is told, with its kernel stack', () => {
      const thread = line.threads?.find(({ tid }) => Number(tid) === number('thread'));
      expect(thread?.differs).toMatchObject({
        uids: { real: 65534, effective: 65534 },
        capabilities: { effective: [] },
      });
      expect(thread?.kernelStack?.length).toBeGreaterThan(0);
      expect(line.anomalies).toContainEqual({ kind: 'threadsDiffer', threads: [number('thread')] });
      expect(written.members.has(`proc/${number('pid')}/task/${number('thread')}/stack`)).toBe(true);
    });

    test('executable memory without a file is told by its first bytes, and what is not there is not brought there', () => {
      const starts = line.memory?.anonymousExecutable as unknown as { start: string; firstBytes?: string }[];
      const at = (name: string) => starts.find(({ start }) => start === facts.get(name));
      expect(at('program')).toMatchObject({
        permissions: 'rwxp',
        resident: true,
        elf: true,
        firstBytes: readFileSync('/bin/true').subarray(0, 64).toString('hex'),
      });
      expect(at('zeros')).toMatchObject({ resident: true, zeros: true });
      expect(at('untouched')).toMatchObject({ resident: false });
      expect(at('untouched')?.firstBytes).toBeUndefined();
      expect(line.anomalies).toContainEqual({ kind: 'programInAnonymousMemory', starts: [facts.get('program')] });
      expect(residentKib(number('pid'), facts.get('untouched') ?? '')).toBe(0);
    });

    test('the libraries that are mapped have the digests that sha256 gives, each once', () => {
      const mapped = jsonLines(written, 'mapped.jsonl');
      const libc = mapped.find((one) => /\/libc\.so\.6$|\/libc-2/.test(String(one.path)));
      expect(libc).toMatchObject({ processes: 2, sha256: sha256(String(libc?.path)) });
      expect(mapped.find((one) => one.path === line.executable?.path)?.sha256).toBe(line.executable?.sha256);
      expect(new Set(mapped.map(({ path: at }) => String(at))).size).toBe(mapped.length);
    });

    test('the environment is there with its values', () => {
      expect(line.environment).toContain('SECRET=in the environment');
      expect(line.environmentNames).toContain('SECRET');
      expect(Buffer.from(String(line.environmentBase64), 'base64').includes(Buffer.from('BYTES=\xff', 'latin1'))).toBe(
        true,
      );
    });

    test('every line has its keys sorted, at every depth', () => {
      const sorted = (value: unknown): unknown => {
        if (Array.isArray(value)) return value.map(sorted);
        if (typeof value !== 'object' || value === null) return value;
        return Object.fromEntries(
          Object.entries(value)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, one]) => [key, sorted(one)]),
        );
      };
      const text = written.members.get('processes.jsonl')?.toString() ?? '';
      for (const one of text.trim().split('\n')) expect(one).toBe(JSON.stringify(sorted(JSON.parse(one))));
    });
  },
);

function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

function residentKib(pid: number, start: string): number {
  const smaps = readFileSync(`/proc/${pid}/smaps`, 'latin1');
  const region = smaps.slice(smaps.indexOf(`${start.slice(2)}-`));
  return Number(/^Rss:\s+(\d+) kB$/m.exec(region)?.[1]);
}

function startWitness() {
  const program = path.resolve(import.meta.dirname, '../fixtures/proc/witness.py');
  const env = { PATH: '/usr/bin:/bin', SECRET: 'in the environment' };
  // Bytes that are no UTF-8 go by way of a shell: Node's own environment is text.
  const child = spawn('sh', ['-c', `export BYTES="$(printf '\\377')"; exec python3 "$0"`, program], {
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ready = once(child.stdout, 'data').then(([said]) => {
    const pairs = String(said)
      .trim()
      .split(' ')
      .map((pair) => pair.split('=', 2) as [string, string]);
    return new Map(pairs);
  });
  return {
    ready,
    async end() {
      child.stdin.end();
      await once(child, 'exit');
    },
  };
}
