import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test, vi } from 'vitest';
import { Refusal, startFakeAgent } from './fake-agent.ts';
import { exhibit, MAIN, shell, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

describe('help', () => {
  test('names every command under a heading, the options of all, and the exit codes', async () => {
    const ran = await exhibit(['--help']);
    const text = ran.stdout.toString();
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    for (const name of [
      'capture',
      'containers',
      'captures',
      'show',
      'cancel',
      'doctor',
      'verify',
      'custody',
      'extract',
      'findings',
      'agent',
    ]) {
      expect(text).toMatch(new RegExp(`^  ${name} `, 'm'));
    }
    expect(text).toContain('On the node, through the agent; or over all nodes, through a controller:');
    expect(text).toContain('With the evidence, anywhere:');
    expect(text).toContain('--socket <path>');
    expect(text).toContain('Exit codes: 0 done, 1 failed or not intact, 2 wrong usage');
  });

  test('of a command has its examples and the options of all commands', async () => {
    const direct = await exhibit(['capture', '--help']);
    const asked = await exhibit(['help', 'capture']);
    expect(direct.stdout.toString()).toContain('$ exhibit capture prod/web-0 --case IR-2031');
    expect(direct.stdout.toString()).toContain('--json');
    expect(asked).toEqual(direct);
  });

  test('and version are JSON documents with --json', async () => {
    const help = await exhibit(['capture', '--help', '--json']);
    expect(Object.keys(JSON.parse(help.stdout.toString()))).toEqual(['help']);
    const version = await exhibit(['--version', '--json']);
    const numbers = { version: expect.stringMatching(/^\d+\.\d+\.\d+/), protocol: 1, formatVersion: 1 };
    expect(JSON.parse(version.stdout.toString())).toEqual(numbers);
  });

  test('runs by the file itself, as an installed command does', async () => {
    const env = { PATH: `${path.dirname(process.execPath)}:${process.env.PATH ?? ''}` };
    const { stdout } = await promisify(execFile)(MAIN, ['--version'], { env });
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('wrong usage exits 2 with one sentence', () => {
  test.each([
    [['capure', 'x'], "exhibit: Unknown command 'capure': did you mean capture?\n"],
    [['captures', '--limt', '3'], "exhibit: Unknown option '--limt': did you mean --limit?\n"],
    [['show'], "exhibit: Missing required argument 'id': see `exhibit --help`.\n"],
    [
      ['capture', 'a/b', '--artifacts', 'memory,disk'],
      'exhibit: There is no artifact disk: choose from processes, network, node, memory, checkpoint, volumes, rootfs, logs, spec, image.\n',
    ],
    [['capture', 'a/b', '--id', '7'], 'exhibit: 7 is not a UUID: leave --id out, or give one made by uuidgen.\n'],
    [
      ['capture', 'a/b', '--wait', '--detach'],
      "exhibit: Option '--wait' cannot be used with option '--detach': see `exhibit --help`.\n",
    ],
  ])('%j', async (args, sentence) => {
    expect(await exhibit(args)).toMatchObject({ code: 2, stderr: sentence, stdout: Buffer.alloc(0) });
  });

  test('and is JSON on stderr with --json, wherever that stands', async () => {
    const ran = await exhibit(['capure', '--json']);
    expect(ran.code).toBe(2);
    expect(JSON.parse(ran.stderr)).toEqual({
      error: { code: 'usage', message: "Unknown command 'capure': did you mean capture?" },
    });
  });

  test('and without a command shows the help on stderr', async () => {
    const ran = await exhibit([]);
    expect(ran.code).toBe(2);
    expect(ran.stdout.length).toBe(0);
    expect(ran.stderr).toContain('Usage: exhibit');
    expect(ran.stderr).toMatch(/exhibit: Name a command, for example `exhibit containers`\.\n$/);
  });
});

describe('an agent that cannot be reached', () => {
  test('fails at once and says how to start one when there is no socket', async () => {
    const started = performance.now();
    const ran = await exhibit(['containers', '--socket', '/nonexistent/agent.sock']);
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain(
      'there is no socket /nonexistent/agent.sock: start it with `exhibit agent --config FILE`',
    );
    expect(ran.stderr).toContain('kubectl exec');
    expect(ran.stderr.split('\n')).toHaveLength(2);
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  test('is told from a file that is no socket and from a socket that nobody serves', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-cli-'));
    try {
      const file = path.join(folder, 'file');
      await writeFile(file, '');
      expect((await exhibit(['doctor', '--socket', file])).stderr).toContain(`No agent listens on ${file}`);
      const dead = path.join(folder, 'dead.sock');
      await leaveDeadSocket(dead);
      const ran = await exhibit(['doctor', '--json', '--socket', dead]);
      expect(JSON.parse(ran.stderr).error.code).toBe('agent-unreachable');
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('may be one that only root can ask', async (context) => {
    if (process.getuid?.() !== 0) return context.skip('needs root, to give a socket to somebody else');
    await using agent = await startFakeAgent({});
    const ran = await shell(
      // Root without CAP_DAC_OVERRIDE is refused like everybody else, and can still read node and the checkout.
      'chown 65534 "$S" && chmod 600 "$S" && setpriv --bounding-set=-dac_override $EXHIBIT containers --socket "$S"',
      { env: { S: agent.socket } },
    );
    expect(ran).toMatchObject({
      code: 1,
      stderr: `exhibit: Only root may ask the agent on ${agent.socket}: run this again as root.\n`,
    });
  });

  test('or one that does not speak gRPC, which ends in a sentence as well', async () => {
    const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-cli-'));
    const socket = path.join(folder, 'http.sock');
    const server = net.createServer((connection) =>
      connection.on('error', () => undefined).end('HTTP/1.1 400 no\r\n\r\n'),
    );
    await new Promise<void>((resolve) => void server.listen(socket, resolve));
    try {
      const ran = await exhibit(['containers', '--socket', socket]);
      expect(ran.code).toBe(1);
      expect(ran.stderr).toMatch(/^exhibit: The agent on .*\n$/);
    } finally {
      server.close();
      await rm(folder, { recursive: true });
    }
  });
});

describe('errors', () => {
  test('without a code of ours still name the agent and its log', async () => {
    await using agent = await startFakeAgent({ containers: new Refusal(undefined, 'boom', 13) });
    const ran = await exhibit(['containers', '--socket', agent.socket]);
    expect(ran).toMatchObject({
      code: 1,
      stderr: `exhibit: The agent on ${agent.socket} failed (boom): see its log.\n`,
    });
  });

  test('with a code that is not ours do not get through as one', async () => {
    const odd = Object.assign(new Refusal(undefined, 'odd', 13), { code: 'toString' });
    await using agent = await startFakeAgent({ containers: odd });
    const ran = await exhibit(['containers', '--json', '--socket', agent.socket]);
    expect(JSON.parse(ran.stderr).error.code).toBe('internal');
  });

  test('of usage that only the agent can see exit 2', async () => {
    await using agent = await startFakeAgent({ capture: new Refusal('usage', 'Say it otherwise.') });
    expect((await exhibit(['show', 'x', '--socket', agent.socket])).code).toBe(2);
  });

  test('show their causes only with EXHIBIT_DEBUG=1', async () => {
    const args = ['containers', '--socket', '/nonexistent/s'];
    expect((await exhibit(args)).stderr).not.toContain('ENOENT');
    const debug = await exhibit(args, { env: { EXHIBIT_DEBUG: '1' } });
    expect(debug.stderr).toContain('error [agent-unreachable]: ExhibitError');
    expect(debug.stderr).toContain('caused by: Error: connect ENOENT');
  });
});

async function leaveDeadSocket(file: string): Promise<void> {
  const script = `import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])`;
  await promisify(execFile)('python3', ['-c', script, file]);
}
