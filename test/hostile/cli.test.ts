import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { canonicalJson } from '../../evidence/json.ts';
import { manifestSchema } from '../../evidence/manifest.ts';
import { CAPTURE_ID, Refusal, someCapture, someStage, startFakeAgent, wholeCapture } from '../unit/cli/fake-agent.ts';
import { exhibit, onTerminal, shell, TEST_TIMEOUT_MS } from '../unit/cli/run.ts';
import { HOSTILE_NAME, type SomeBundle, someBundle } from '../unit/cli/some-bundle.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

/** Clears the screen, sets the title, rings, hides in zero width, turns the line around, is one byte long (C1). */
const NASTY = 'x\x1b[2J\x1b]0;owned\x07\u200b\u202e\x9b31m\r\nroot\x7f\x00';
/** Everything but the program's own line ends. */
const OBEYED = /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}]/u;

describe('an agent whose words are hostile', () => {
  const container = { id: NASTY, name: NASTY, namespace: NASTY, pod: NASTY, image: NASTY, state: NASTY };
  const capture = someCapture({
    captureId: NASTY,
    state: 'partial',
    target: NASTY,
    caseId: NASTY,
    reason: NASTY,
    bundleUrl: NASTY,
    error: NASTY,
    stages: [someStage({ stage: NASTY, status: NASTY, reason: NASTY })],
  });
  const script = {
    containers: {
      runtimeName: NASTY,
      runtimeVersion: NASTY,
      containers: [{ ...container, labels: { [NASTY]: NASTY } }],
    },
    captures: { captures: [capture] },
    capture,
    cancelled: capture,
    doctor: { checks: [{ group: NASTY, name: NASTY, status: 'failure', found: NASTY, meaning: NASTY, mend: NASTY }] },
    events: () => wholeCapture(capture),
  };

  test.each([['containers'], ['captures'], ['show', 'x'], ['cancel', 'x'], ['doctor'], ['capture', 'prod/web-0']])(
    'moves no cursor in what %s prints, in words or in JSON',
    async (...args) => {
      await using agent = await startFakeAgent(script);
      for (const more of [[], ['--json']]) {
        const ran = await exhibit([...args, ...more, '--socket', agent.socket]);
        expect(ran.stdout.length).toBeGreaterThan(0);
        expect(ran.stdout.toString()).not.toMatch(OBEYED);
        expect(ran.stderr).not.toMatch(OBEYED);
      }
    },
  );

  test('comes through --json exactly', async () => {
    await using agent = await startFakeAgent(script);
    const ran = await exhibit(['containers', '--json', '--socket', agent.socket]);
    expect(JSON.parse(ran.stdout.toString()).containers[0]).toMatchObject({ name: NASTY, labels: { [NASTY]: NASTY } });
  });

  test('cannot use an error either, nor with EXHIBIT_DEBUG=1', async () => {
    await using agent = await startFakeAgent({ containers: new Refusal('target-not-found', NASTY) });
    const ran = await exhibit(['containers', '--socket', agent.socket], { env: { EXHIBIT_DEBUG: '1' } });
    expect(ran.code).toBe(1);
    expect(ran.stderr).not.toMatch(OBEYED);
  });

  test('reaches a terminal only as text, while the spinner turns', async () => {
    await using agent = await startFakeAgent(script);
    const ran = await onTerminal(['capture', 'prod/web-0', '--socket', agent.socket], 1000);
    expect(ran.code).toBe(0);
    expect(ran.stdout.toString()).not.toMatch(/\x1b\[2J|\x1b\]0|\x07|\x9b|\u202e/);
    expect(ran.stdout.toString()).toContain('x\\x1b[2J');
  });
});

describe('an agent that fails in the middle', () => {
  const started = { accepted: { target: 't', sinkUrl: 's3://e', stages: ['memory'], created: true } };

  test('by dying ends the wait with a sentence that says how to go on', async () => {
    await using agent = await startFakeAgent({
      async *events(_, self) {
        yield started;
        yield { stageStarted: { stage: 'memory' } };
        await new Promise((resolve) => setTimeout(resolve, 200));
        self.die();
      },
    });
    const ran = await exhibit(['capture', 'prod/web-0', '--id', CAPTURE_ID, '--socket', agent.socket]);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toMatch(
      new RegExp(`\\nexhibit: The agent went away during the capture: .*exhibit show ${CAPTURE_ID}.*\\n$`),
    );
  });

  test('by ending the stream without a result is a failure, not a success', async () => {
    await using agent = await startFakeAgent({
      async *events() {
        yield started;
      },
    });
    const ran = await exhibit(['capture', 'prod/web-0', '--socket', agent.socket]);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('The agent went away during the capture');
    expect(ran.stdout.length).toBe(0);
  });

  test('by sending events that this program does not know is passed over', async () => {
    await using agent = await startFakeAgent({
      async *events() {
        yield {};
        yield* wholeCapture(someCapture());
      },
    });
    expect((await exhibit(['capture', 'prod/web-0', '--socket', agent.socket])).code).toBe(0);
  });

  test('by accepting and saying nothing leaves Ctrl-C to work, twice at the latest', async () => {
    const folder = await someBundle();
    const socket = path.join(folder.folder, 'silent.sock');
    const heard = new AbortController();
    const server = net.createServer((connection) => {
      connection.on('error', () => undefined).once('data', () => heard.abort());
    });
    await new Promise<void>((resolve) => void server.listen(socket, resolve));
    const ran = await exhibit(['capture', 'prod/web-0', '--socket', socket], { interrupt: heard.signal });
    server.close();
    await folder[Symbol.asyncDispose]();
    expect(ran.code).toBe(130);
    expect(ran.stderr).toContain('goes on without you');
  });
});

describe('much of everything', () => {
  test('ten thousand containers are listed, and head may leave after the first', async () => {
    const containers = Array.from({ length: 10_000 }, (_, at) => ({
      id: at.toString(16).padStart(64, '0'),
      name: `c${at}`,
      namespace: 'n',
      pod: `p${at}`,
      image: 'i',
      state: 'running',
      labels: { app: 'x'.repeat(200) },
    }));
    await using agent = await startFakeAgent({ containers: { runtimeName: 'r', containers } });
    const all = await exhibit(['containers', '--socket', agent.socket]);
    expect(all.stdout.toString().split('\n')).toHaveLength(10_002);
    const env = { S: agent.socket };
    const head = await shell('$EXHIBIT containers --socket "$S" | head -n 1; echo $PIPESTATUS', { env });
    expect(head).toMatchObject({ stderr: '' });
    expect(head.stdout.toString().split('\n')[1]).toBe('0');
  });

  test('twenty thousand progress events do not fill the memory or the log', async () => {
    await using agent = await startFakeAgent({
      async *events() {
        yield { accepted: { target: 't', sinkUrl: 's3://e', stages: ['memory'], created: true } };
        yield { stageStarted: { stage: 'memory' } };
        for (let at = 0; at < 20_000; at += 1)
          yield { stageProgress: { stage: 'memory', doneBytes: at, totalBytes: 0 } };
        yield { ended: someCapture() };
      },
    });
    const ran = await exhibit(['capture', 'prod/web-0', '--socket', agent.socket]);
    expect(ran.code).toBe(0);
    expect(ran.stderr.split('\n')).toHaveLength(3);
  });

  test('an archive in a pipe whose reader leaves ends quietly', async () => {
    await using some = await someBundle();
    const env = { B: some.bundle };
    const ran = await shell('$EXHIBIT extract "$B" processes | head -c 10 >/dev/null; echo $PIPESTATUS', {
      env,
    });
    expect(ran).toMatchObject({ stderr: '', stdout: Buffer.from('0\n') });
  });

  test('a full disk behind stdout is an error, not silence', async () => {
    await using some = await someBundle();
    const env = { B: some.bundle };
    const ran = await shell('$EXHIBIT extract "$B" processes big > /dev/full', { env });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toBe('exhibit: The output cannot be written: ENOSPC: no space left on device, write\n');
  });
});

describe('extract from a hostile bundle', () => {
  test('lists names as one line each', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', '--list']);
    expect(ran.stdout.toString()).not.toMatch(OBEYED);
    expect(ran.stdout.toString()).toContain('a\\x1b[2J\\n\\u{202e}gpj.exe\n');
  });

  test('writes a member that climbs into the folder that --out names, under its last name', async () => {
    await using some = await someBundle();
    const out = path.join(some.folder, 'deep', 'out');
    await mkdir(out, { recursive: true });
    const ran = await exhibit(['extract', some.bundle, 'processes', '../../escape', '--out', out]);
    expect(ran.code).toBe(0);
    expect(await readdir(out)).toEqual(['escape']);
    expect(await readdir(path.join(some.folder, 'deep'))).toEqual(['out']);
  });

  test('names no file by what an eye cannot see', async () => {
    await using some = await someBundle();
    const ran = await exhibit(['extract', some.bundle, 'processes', HOSTILE_NAME, '--out', some.folder]);
    expect(ran.code).toBe(0);
    expect(await readdir(some.folder)).toContain('a_x1b[2J_n_u{202e}gpj.exe');
  });

  test.each(['a file', 'nothing'])('follows no link that waits at --out and leads to %s', async (kind) => {
    await using some = await someBundle();
    const victim = path.join(some.folder, 'victim');
    if (kind === 'a file') await writeFile(victim, 'precious');
    const out = path.join(some.folder, 'link');
    await symlink(victim, out);
    const ran = await exhibit(['extract', some.bundle, 'processes', '17/cmdline', '--out', out]);
    expect(ran.code).toBe(2);
    expect(await readdir(some.folder)).toHaveLength(kind === 'a file' ? 3 : 2);
    if (kind === 'a file') expect(await readFile(victim, 'utf8')).toBe('precious');
  });

  test('writes no bytes to a terminal that are no text, and text only escaped', async () => {
    await using some = await someBundle();
    const binary = await onTerminal(['extract', some.bundle, 'processes', '17/cmdline']);
    expect(binary.code).toBe(2);
    expect(binary.stdout.toString()).toBe(
      'exhibit: These bytes are no text and a terminal would obey them: use --out, or a pipe.\r\n',
    );
    const tar = await onTerminal(['extract', some.bundle, 'processes']);
    expect(tar.code).toBe(2);
    const text = await onTerminal(['extract', some.bundle, 'processes', '17/status']);
    expect(text.stdout.toString()).toBe('Name: sh\r\nEvil: \\x1b[2Jä\r\n');
  });

  test('says that a member differs from the manifest, exits 1 and keeps what it wrote', async () => {
    await using some = await someBundle();
    await changeDigest(some, '17/cmdline');
    const out = path.join(some.folder, 'out');
    const ran = await exhibit(['extract', some.bundle, 'processes', '17/cmdline', '--out', out, '--json']);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout.toString())).toMatchObject({ matches: false });
    expect(JSON.parse(ran.stderr).error).toMatchObject({
      code: 'bundle-corrupt',
      message: expect.stringContaining(`${out} is kept, do not rely on it`),
    });
    expect(await readFile(out)).toEqual(Buffer.from('sh\0-c\0'));
  });

  test('that is damaged leaves no half file', async () => {
    await using some = await someBundle();
    const file = path.join(some.bundle, 'processes.tar.zst');
    const bytes = await readFile(file);
    await writeFile(file, bytes.subarray(0, bytes.length - 40));
    const ran = await exhibit(['extract', some.bundle, 'processes', '--out', some.folder]);
    expect(ran.code).toBe(1);
    expect(await readdir(some.folder)).toEqual([CAPTURE_ID]);
  });

  test('whose object is a FIFO or a link does not wait or follow', async () => {
    await using some = await someBundle();
    await promisify(execFile)('bash', [
      '-c',
      'rm "$0"/p*.zst "$0"/r*.zst; mkfifo "$0"/processes.tar.zst; ln -s /etc/passwd "$0"/rootfs.tar.zst',
      some.bundle,
    ]);
    for (const artifact of ['processes', 'rootfs']) {
      const ran = await exhibit(['extract', some.bundle, artifact]);
      expect(ran.code).toBe(1);
      expect(ran.stdout.length).toBe(0);
    }
    expect((await exhibit(['verify', some.bundle])).code).toBe(1);
  });

  test.each([
    ['is no JSON', () => '{'],
    ['has a key that nobody defined', (text: string) => text.replace('{', '{"x": 1,')],
    ['names a path outside', (text: string) => text.replaceAll('processes.tar.zst', '../../../etc/passwd')],
    ['is nothing', () => ''],
  ])('whose manifest %s ends in one sentence', async (_, edit) => {
    await using some = await someBundle();
    const file = path.join(some.bundle, 'manifest.json');
    await writeFile(file, edit(await readFile(file, 'utf8')));
    const ran = await exhibit(['extract', some.bundle, 'processes']);
    expect(ran.code).toBe(1);
    expect(ran.stderr.trimEnd().split('\n')).toHaveLength(1);
    expect(ran.stderr).toMatch(/^exhibit: /);
    expect(ran.stdout.length).toBe(0);
  });
});

/** The manifest claims another digest for this member of the first archive. */
async function changeDigest(some: SomeBundle, member: string): Promise<void> {
  const file = path.join(some.bundle, 'manifest.json');
  const manifest = manifestSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  const found = manifest.objects.flatMap((object) => object.members ?? []).find((one) => one.path === member);
  if (found === undefined) throw new Error(`no member ${member}`);
  found.sha256 = '0'.repeat(64);
  await writeFile(file, canonicalJson(manifest));
}
