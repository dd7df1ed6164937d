import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { connectionOf } from '../../../cli/connection.ts';
import { readContexts } from '../../../cli/contexts.ts';
import { DEFAULT_SOCKET } from '../../../cli/default-socket.ts';
import { exhibit, shell, TEST_TIMEOUT_MS } from './run.ts';

vi.setConfig({ testTimeout: TEST_TIMEOUT_MS });

let folder: string;
let env: Record<string, string>;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-contexts-'));
  env = { EXHIBIT_CONTEXTS: path.join(folder, 'contexts.yaml') };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const keep = (text: string) => writeFileSync(env.EXHIBIT_CONTEXTS ?? '', text);
const PROD = 'currentContext: prod\ncontexts:\n  - {name: prod, controller: "c.example.org:8443", caFile: ca.pem}\n';

describe('whom a command asks', () => {
  test('is the agent of this node, where nothing says otherwise', async () => {
    expect(await connectionOf({}, env)).toEqual({ kind: 'agent', socket: DEFAULT_SOCKET });
    expect(await connectionOf({}, { ...env, EXHIBIT_SOCKET: '/s' })).toEqual({ kind: 'agent', socket: '/s' });
  });

  test('is the controller of the current context, with paths from where the file is', async () => {
    keep(PROD);
    expect(await connectionOf({}, env)).toEqual({
      kind: 'controller',
      context: 'prod',
      controller: { controller: 'c.example.org:8443', caFile: path.join(folder, 'ca.pem') },
    });
  });

  test.each([
    ['--socket before the current context', { socket: '/s' }, {}, '/s'],
    ['EXHIBIT_SOCKET before the current context', {}, { EXHIBIT_SOCKET: '/e' }, '/e'],
    ['--controller before EXHIBIT_SOCKET', { controller: 'a:1' }, { EXHIBIT_SOCKET: '/e' }, 'a:1'],
    ['--controller before EXHIBIT_CONTEXT', { controller: 'a:1' }, { EXHIBIT_CONTEXT: 'prod' }, 'a:1'],
    ['EXHIBIT_CONTROLLER before the current context', {}, { EXHIBIT_CONTROLLER: '[::1]:2' }, '[::1]:2'],
    ['--context before EXHIBIT_CONTROLLER', { context: 'prod' }, { EXHIBIT_CONTROLLER: 'a:1' }, 'c.example.org:8443'],
  ])('is named by %s', async (_name, options, more, where) => {
    keep(PROD);
    const connection = await connectionOf(options, { ...env, ...more });
    expect(connection.kind === 'agent' ? connection.socket : connection.controller.controller).toBe(where);
  });

  test('keeps the files of a context unless others are given', async () => {
    keep(PROD);
    const connection = await connectionOf({ context: 'prod', cert: '/me.pem' }, { ...env, EXHIBIT_KEY: '/me.key' });
    expect(connection).toMatchObject({
      controller: { caFile: path.join(folder, 'ca.pem'), certFile: '/me.pem', keyFile: '/me.key' },
    });
  });

  test.each([
    [{ socket: '/s', controller: 'a:1' }, 'give only one of them'],
    [{ controller: 'nowhere' }, 'HOST:PORT'],
    [{ controller: 'https://a:1' }, 'HOST:PORT'],
    [{ context: 'other' }, 'There is no context other; there are prod.'],
  ])('is refused when it is %j', async (options, words) => {
    keep(PROD);
    await expect(connectionOf(options, env)).rejects.toThrow(words);
  });

  test.each([
    ['contexts: [', 'is not valid YAML'],
    ['contexts: 3', 'contexts: '],
    ['contexts: [{name: a, controller: b}]', 'contexts.0.controller: HOST:PORT'],
    ['contexts: [{name: a, controller: "b:1", password: x}]', 'contexts.0'],
    ['a: &a [1]\nb: *a', 'is not'],
  ])('is not guessed from a file that says %j', async (text, words) => {
    keep(text);
    await expect(connectionOf({}, env)).rejects.toThrow(words);
  });
});

describe('exhibit context', () => {
  const context = (...args: string[]) => exhibit(['context', ...args], { env });

  test('keeps, lists, chooses and forgets controllers', async () => {
    expect((await context()).stdout.toString()).toContain('No contexts yet');
    const set = ['--controller', 'a.example.org:8443', '--ca', 'ca.pem', '--cert', 'me.pem', '--key', 'me.key'];
    expect(await context('set', 'prod', ...set)).toMatchObject({ code: 0, stderr: '' });
    await context(
      'set',
      'lab',
      '--controller',
      'b:8443',
      '--token-command',
      'get-token',
      '--token-arg=--audience',
      '--token-arg',
      'exhibit',
    );
    const listed = (await context()).stdout.toString();
    expect(listed).toMatch(/^\* +prod +a\.example\.org:8443 +certificate$/m);
    expect(await context('use', 'lab')).toMatchObject({ code: 0 });
    expect(await readContexts(env)).toMatchObject({
      currentContext: 'lab',
      contexts: [{ name: 'prod' }, { name: 'lab', tokenCommand: ['get-token', '--audience', 'exhibit'] }],
    });
    expect((await context('remove', 'lab')).code).toBe(0);
    expect(await readContexts(env)).toEqual({
      currentContext: '',
      contexts: [
        {
          name: 'prod',
          controller: 'a.example.org:8443',
          caFile: path.resolve('ca.pem'),
          certFile: path.resolve('me.pem'),
          keyFile: path.resolve('me.key'),
        },
      ],
    });
    expect(statSync(env.EXHIBIT_CONTEXTS ?? '').mode & 0o777).toBe(0o600);
  });

  test('changes what is given of a context and keeps the rest', async () => {
    keep(PROD);
    await context('set', 'prod', '--server-name', 'exhibit.internal');
    expect(readFileSync(env.EXHIBIT_CONTEXTS ?? '', 'utf8')).toContain('c.example.org:8443');
    expect((await readContexts(env)).contexts[0]).toMatchObject({
      serverName: 'exhibit.internal',
      controller: 'c.example.org:8443',
    });
  });

  test('refuses a context without an address and leaves the file as it was', async () => {
    keep(PROD);
    expect(await context('set', 'new')).toMatchObject({ code: 2 });
    expect(readFileSync(env.EXHIBIT_CONTEXTS ?? '', 'utf8')).toBe(PROD);
  });
});

describe('what only a controller can do', () => {
  test.each([
    [['nodes'], 'This asks a controller'],
    [['watch', 'x'], 'This asks a controller'],
    [['audit'], 'This asks a controller'],
    [['cases', 'open', 'IR-1', '--title', 'x'], 'This asks a controller'],
  ])('says so: %j', async (args, words) => {
    const ran = await exhibit(args, { env });
    expect(ran.code).toBe(2);
    expect(ran.stderr).toContain(words);
  });

  test('a controller that is not there is named, with what to check', async () => {
    const ran = await exhibit(['--controller', '127.0.0.1:1', 'nodes'], { env });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain('No controller answers on 127.0.0.1:1');
  });
});

describe('completion', () => {
  /** As bash would at a press of the key, with what bash-completion gives the script in place of its own function. */
  const press = (words: string) =>
    shell(
      `exhibit() { $EXHIBIT "$@"; }
       _get_comp_words_by_ref() { words=(${words}); cword=$((\${#words[@]} - 1)); cur=\${words[cword]}; prev=\${words[cword - 1]}; }
       compopt() { :; }
       source <($EXHIBIT completion bash)
       __exhibit_complete
       printf '%s\\n' "\${COMPREPLY[@]}"`,
      { env },
    );

  test.each([
    ['exhibit wat', 'watch'],
    ['exhibit cases cl', 'close'],
    ['exhibit capture --max', '--max-targets'],
    ["exhibit context use ''", 'prod'],
    ["exhibit --context ''", 'prod'],
  ])('of %j in bash offers %s', async (words, offered) => {
    keep(PROD);
    const ran = await press(words);
    expect(
      ran.stdout
        .toString()
        .split('\n')
        .map((line) => line.trim()),
    ).toContain(offered);
  });

  test.each(['bash', 'zsh', 'fish', 'powershell'])('has a script for %s', async (name) => {
    const ran = await exhibit(['completion', name], { env });
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(ran.stdout.toString()).toMatch(/exhibit.* complete/);
  });

  test('names the shells that it knows', async () => {
    expect(await exhibit(['completion', 'tcsh'], { env })).toMatchObject({ code: 2 });
  });
});
