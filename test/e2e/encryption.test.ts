import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Manifest } from '../../evidence/manifest.ts';
import { type CliResult, runCli, startAgent } from '../lab/agent.ts';
import { hasProgram, program, shell } from './readers.ts';

/**
 * A process with a secret in its environment and memory, captured by an agent that encrypts to two recipients into a folder. The judges
 * are age-keygen, age, zstd, tar and grep.
 */

const SECRET = 'planted-secret-5d1f0c';
const CASE = 'CASE-planted-5d1f0c';

const obstacle = (): string | undefined => {
  if (process.getuid?.() !== 0) return 'needs root: the agent reads the memory of other processes';
  const missing = ['age', 'age-keygen', 'zstd', 'tar', 'jq'].find((name) => !hasProgram(name));
  return missing === undefined ? undefined : `needs ${missing}: run node test/lab/setup.mjs tools as root`;
};

let folder: string;
let victim: ChildProcess;
let captured: CliResult;
let bundle: string;
const keys = ['first', 'second'] as const;
const keyFile = (name: string) => path.join(folder, `${name}.key`);

beforeAll(async () => {
  if (obstacle() !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-e2e-age-'));
  const [first = '', second = ''] = keys.map((name) => {
    shell('age-keygen -o "$1" 2>/dev/null', keyFile(name));
    return shell('age-keygen -y "$1"', keyFile(name)).trim();
  });
  writeFileSync(path.join(folder, 'recipients.txt'), `# the second lab\n${second}\n`);
  victim = spawn('sleep', ['600'], { env: { ...process.env, SECRET }, stdio: 'ignore' });
  await once(victim, 'spawn');
  await using agent = await startAgent(undefined, {
    config: {
      sink: { url: `file://${folder}/evidence` },
      encryption: { recipients: [first], recipientsFile: path.join(folder, 'recipients.txt') },
    },
  });
  captured = await agent.exhibit(
    'capture',
    `pid:${victim.pid}`,
    '--case',
    CASE,
    '--artifacts',
    'processes,memory,network',
  );
  const base = path.join(folder, 'evidence', 'lab', 'this-machine');
  bundle = path.join(base, readdirSync(base)[0] ?? 'none');
}, 120_000);

afterAll(() => {
  if (obstacle() !== undefined) return;
  victim.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

beforeEach((context) => {
  const reason = obstacle();
  if (reason !== undefined) context.skip(reason);
});

const decrypt = (name: string, key: string = 'first') =>
  shell('age -d -i "$1" "$2"', keyFile(key), path.join(bundle, name));
const manifestBy = (key: string) => JSON.parse(decrypt('manifest.json.age', key)) as Manifest;

describe('a capture that is encrypted to two labs', () => {
  test('ends as one that is not', () => {
    expect(captured.code, captured.stderr).toBe(0);
    const states = manifestBy('first').artifacts.map(({ name, status }) => `${name} ${status}`);
    expect(
      states.every((state) => /captured|partial/.test(state)),
      states.join(),
    ).toBe(true);
  });

  test('leaves nothing in the folder but age files and the seal, and nothing of the secret, the case or the target in them', () => {
    const names = readdirSync(bundle);
    expect(names.filter((name) => !name.endsWith('.age'))).toEqual(['manifest.dsse.json']);
    expect(names).toEqual(expect.arrayContaining(['request.json.age', 'manifest.json.age', 'memory.tar.zst.age']));
    for (const word of [SECRET, CASE, 'sleep', `pid:${victim.pid}`, 'ustar']) {
      expect(program('grep', ['-rlaF', word, bundle])).toMatchObject({ code: 1, stdout: '' });
    }
    // Words would not be found in a zstd frame either: what follows header and nonce is none.
    for (const name of names.filter((one) => one.endsWith('.age'))) {
      const bytes = readFileSync(path.join(bundle, name));
      const headEnd = bytes.indexOf('\n', bytes.indexOf('\n--- ') + 1) + 1 + 16;
      expect(bytes.subarray(headEnd, headEnd + 4), name).not.toEqual(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
    }
    expect(shell('jq -r .payload "$1" | base64 -d', path.join(bundle, 'manifest.dsse.json'))).not.toContain(CASE);
  });

  test('is opened by age with each identity, by the steps of docs/encryption.md', async () => {
    const text = readFileSync(path.join(import.meta.dirname, '../../docs/encryption.md'), 'utf8');
    const steps = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
    expect(steps.length).toBeGreaterThan(3);
    for (const key of keys) {
      expect(manifestBy(key).captureId).toBe(path.basename(bundle));
      const plain = path.join(bundle, 'plain');
      for (const step of steps) shell(`set -eu; cd "$1"; KEY=$2; ${step}`, bundle, keyFile(key));
      expect(readFileSync(path.join(plain, 'request.json'), 'latin1')).toContain(CASE);
      rmSync(plain, { recursive: true });
    }
  });

  test('has the secret, for those who may see it', () => {
    const environment = shell(
      'age -d -i "$1" "$2" | zstd -dcq | tar -xO --wildcards "*/environ"',
      keyFile('second'),
      path.join(bundle, 'processes.tar.zst.age'),
    );
    expect(environment).toContain(`SECRET=${SECRET}`);
    const found = shell(
      'age -d -i "$1" "$2" | zstd -dcq | grep -acF "$3"',
      keyFile('first'),
      path.join(bundle, 'memory.tar.zst.age'),
      SECRET,
    );
    expect(Number(found)).toBeGreaterThan(0);
  });

  test('is intact with an identity, and as stored without', async () => {
    const opened = await runCli(['verify', bundle, '--json', '--identity', keyFile('second')]);
    expect(opened.code, opened.stdout).toBe(0);
    const stored = await runCli(['verify', bundle, '--json']);
    expect(stored.code, stored.stdout).toBe(3);
    const sizes = readdirSync(bundle)
      .filter((name) => name.endsWith('.age'))
      .map((name) => statSync(path.join(bundle, name)).size);
    const { counts, ...report } = JSON.parse(stored.stdout);
    expect(report).toMatchObject({ intactAsStored: true, encryption: { recipients: ['X25519', 'X25519'] } });
    expect(counts).toMatchObject({ objects: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) });
  });

  test('gives a core of the process, read in the middle of the archive', async () => {
    const core = path.join(folder, 'core');
    const pid = String(victim.pid);
    const ran = await runCli(['core', bundle, pid, '--output', core, '--identity', keyFile('first')]);
    expect(ran.code, ran.stderr).toBe(0);
    expect(readFileSync(core).includes(SECRET)).toBe(true);
  });
});
