import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig, parseConfig } from '../../agent/config.ts';
import { isExhibitError } from '../../evidence/error.ts';

const parse = (text: string, env: NodeJS.ProcessEnv = {}) => parseConfig(text, 'agent.yaml', env);

function fault(text: string, env: NodeJS.ProcessEnv = {}): string {
  try {
    parse(text, env);
  } catch (error) {
    if (isExhibitError(error, 'config')) return error.message;
    throw error;
  }
  throw new Error('no fault was found');
}

describe('the configuration', () => {
  test('needs only a sink; everything else has a default', () => {
    const config = parse('sink: { url: "file:///evidence" }');
    expect(config.sinks[0]?.sink.url).toBe('file:///evidence');
    expect(config.runtime).toEqual({
      kind: 'cri',
      socket: '/run/containerd/containerd.sock',
      namespace: 'k8s.io',
      hostRoot: '',
      procRoot: '/proc',
    });
    expect(config.artifacts).toContain('memory');
    expect(config.memory).toEqual({ consistency: 'frozen', bufferBytes: 2 ** 30, whenLarger: 'pre-copy' });
  });

  test('knows the usual socket of each runtime, and takes another', () => {
    const socketOf = (runtime: string) => parse(`sink: { url: "file:///e" }\nruntime: ${runtime}`).runtime.socket;
    expect(socketOf('{ kind: docker }')).toBe('/var/run/docker.sock');
    expect(socketOf('{ kind: containerd }')).toBe('/run/containerd/containerd.sock');
    expect(socketOf('{ kind: docker, socket: /run/other.sock }')).toBe('/run/other.sock');
    const env = { EXHIBIT_RUNTIME_SOCKET: '/host/docker.sock' };
    expect(parse('sink: { url: "file:///e" }\nruntime: { kind: docker }', env).runtime.socket).toBe(
      '/host/docker.sock',
    );
    expect(fault('sink: { url: "file:///e" }\nruntime: { kind: docker, socket: relative }')).toContain(
      'runtime.socket',
    );
    expect(fault('sink: { url: "file:///e" }\nruntime: { kind: dokcer }')).toContain('runtime.kind');
  });

  test('takes of volumes what the policy says, and knows what has no content to take', () => {
    const volumes = (text: string) => parse(`sink: { url: "file:///e" }\nvolumes: ${text}`).volumes;
    const usual = volumes('{}');
    expect(usual).toMatchObject({ contentBytes: 2 ** 30, fileBytes: 2 ** 28, waiting: 'listed' });
    expect(usual.content).toContain('shm');
    expect(usual.content).not.toContain('secret');
    expect(volumes('{ content: [], contentBytes: 1MiB, waiting: metadata }')).toMatchObject({
      content: [],
      contentBytes: 2 ** 20,
      waiting: 'metadata',
    });
    const wrong = fault('sink: { url: "file:///e" }\nvolumes: { content: [kernel], entries: 0, nodePaths: [etc] }');
    for (const key of ['volumes.content.0', 'volumes.entries', 'volumes.nodePaths.0']) expect(wrong).toContain(key);
  });

  test('takes 0 for no compression', () => {
    expect(parse('sink: { url: "file:///e" }\ncompression: { level: 0 }').compression.level).toBe(0);
    expect(fault('sink: { url: "file:///e" }\ncompression: { level: 20 }')).toContain('compression.level');
  });

  test('reads the sizes of a sink in the same way, and says which may be', () => {
    const sink = (fields: string) => parseConfig(`sink: { url: "s3://b/p", ${fields} }`, 'f', {}).sinks[0]?.sink;
    expect(sink('maxBytesPerSecond: 50MiB, partBytes: 16 MiB')).toMatchObject({
      maxBytesPerSecond: 50 * 2 ** 20,
      partBytes: 16 * 2 ** 20,
    });
    expect(() => sink('partBytes: 1MiB')).toThrow(
      'sink.partBytes: expected a size of at least 5242880 bytes and at most 5368709120, found "1MiB"',
    );
    expect(() => sink('maxBytesPerSecond: 1')).toThrow('expected a size of at least 65536 bytes, found 1');
  });

  test('reads sizes as people write them', () => {
    const sizes = ['512MiB', '1 GiB', '4096', '64KiB'].map(
      (size) => parse(`sink: { url: "file:///e" }\nmemory: { bufferBytes: "${size}" }`).memory.bufferBytes,
    );
    expect(sizes).toEqual([2 ** 29, 2 ** 30, 4096, 65536]);
  });

  test('names every wrong key with its path and what was expected', () => {
    const message = fault(
      'sink: { url: "file:///e" }\nmemory: { bufferBytes: lots, colour: red }\nfreeze: { deadlineMs: "soon" }\nsnik: 1\n',
    );
    expect(message).toContain('agent.yaml has 4 faults');
    expect(message).toContain('memory.bufferBytes: expected a size such as 512MiB or a number of bytes, found "lots"');
    expect(message).toContain('memory.colour: unknown key');
    expect(message).toContain('freeze.deadlineMs: expected number');
    expect(message).toContain('snik: unknown key');
  });

  test('says that the sink is missing', () => {
    expect(fault('cluster: prod')).toMatch(/sink: expected .*found nothing/);
  });

  test('has the one sink by the name default', () => {
    const config = parse('sink: { url: "file:///e" }');
    expect(config.sinks).toEqual([{ name: 'default', sink: { url: 'file:///e' } }]);
    expect(config.defaultSinks).toBeUndefined();
  });

  test('has several sinks by their names, in their order', () => {
    const config = parse(
      'sinks: { west: { url: "s3://w/p", region: us-west-2 }, here: { url: "file:///e" } }\ndefaultSinks: [here]',
    );
    expect(config.sinks).toEqual([
      { name: 'west', sink: { url: 's3://w/p', region: 'us-west-2' } },
      { name: 'here', sink: { url: 'file:///e' } },
    ]);
    expect(config.defaultSinks).toEqual(['here']);
  });

  test.each([
    ['sink: { url: "file:///e" }\nsinks: { a: { url: "file:///f" } }', 'sink: expected nothing: sinks is given'],
    ['sinks: {}', 'sinks: expected 1 to 8 sinks, each by its name, found {}'],
    ['sinks:', 'sinks: expected a sink or more, each by its name, found null'],
    ['sinks: [a]', 'sinks: expected a sink or more, each by its name'],
    [
      'sinks: { West: { url: "file:///e" } }',
      'sinks.West: expected a name of a-z, 0-9 and -, at most 40 characters, found "West"',
    ],
    [
      'sinks: { a: { url: "file:///e", region: x } }',
      'sinks.a.region: expected nothing: this is for s3:// only, found "x"',
    ],
    [
      'sinks: { a: { url: "http://e" } }',
      'sinks.a.url: expected file:///folder or s3://bucket/prefix, found "http://e"',
    ],
    [
      'sinks: { a: { url: "s3://b/p" }, b: { url: "s3://b/p/" } }',
      'sinks.b.url: expected another place than that of the sink a, found "s3://b/p/"',
    ],
    ['sinks: { a: { url: "s3://b/p" } }\ndefaultSinks: [a, c]', 'defaultSinks.1: expected one of a, found "c"'],
    ['sinks: { a: { url: "s3://b/p" } }\ndefaultSinks: []', 'defaultSinks: expected a name of a sink or more'],
    ['sink: { url: "s3://b/p" }\ndefaultSinks: [default]', 'defaultSinks: expected nothing: this goes with sinks'],
  ])('refuses %j', (text, words) => {
    expect(fault(text)).toContain(words);
  });

  test('names faults of several sinks together', () => {
    const message = fault(
      'sinks: { a: { url: "s3://b" }, b: { url: "s3://b", colour: red } }\ndefaultSinks: [constructor]\nsnik: 1',
    );
    expect(message).toContain('agent.yaml has 4 faults');
    for (const path of [
      'sinks.b.url: expected another',
      'sinks.b.colour: unknown',
      'defaultSinks.0: expected one of a, b',
      'snik',
    ]) {
      expect(message).toContain(path);
    }
  });

  test('takes no sink from the environment beside several of its own', () => {
    const message = fault('sinks: { a: { url: "s3://b" } }', { EXHIBIT_SINK_URL: 's3://other' });
    expect(message).toContain('EXHIBIT_SINK_URL: expected nothing, since sinks is given');
  });

  test('refuses what is not YAML, with the place', () => {
    expect(fault('sink: [')).toMatch(/agent.yaml is not valid YAML: .*line 1/);
  });

  test('refuses a list, a bare word and an empty file without a stack trace', () => {
    expect(fault('- 1')).toContain('the file: expected');
    expect(fault('word')).toContain('the file: expected');
    expect(fault('')).toContain('sink');
  });

  test('lets the environment win, for what Kubernetes injects', () => {
    const config = parse('cluster: a\nsink: { url: "file:///e" }', {
      EXHIBIT_CLUSTER: 'prod',
      EXHIBIT_NODE: 'ip-10-0-0-1',
      EXHIBIT_SINK_URL: 'file:///other',
      EXHIBIT_LOG_LEVEL: 'debug',
    });
    expect([config.cluster, config.node, config.sinks[0]?.sink.url, config.log.level]).toEqual([
      'prod',
      'ip-10-0-0-1',
      'file:///other',
      'debug',
    ]);
  });

  test.each([
    [
      'an alias inside of its anchor',
      'limits: &a [*a]',
      'limits: expected object, received array, found something that holds itself',
    ],
    ['no number', 'limits: { cpuPercent: .nan }', 'limits.cpuPercent: expected number, received NaN, found NaN'],
    [
      'a number out of its bounds',
      'limits: { cpuPercent: -1 }',
      'limits.cpuPercent: expected number to be >=0, found -1',
    ],
    [
      'a long text',
      `limits: ${'x'.repeat(5_000)}`,
      `limits: expected object, received string, found "${'x'.repeat(199)}...`,
    ],
  ])('says in a sentence what is wrong with %s', (_what, yaml, words) => {
    expect(fault(`sink: { url: 'file:///e' }\n${yaml}`)).toContain(words);
  });

  test('is read to its bound, and refused where it is not text', async () => {
    await expect(loadConfig('/dev/zero', {})).rejects.toThrow('/dev/zero is larger than 1 MiB');
    const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-config-'));
    const file = path.join(folder, 'agent.yaml');
    writeFileSync(file, Buffer.from('sink: { url: "file:///\xff" }', 'latin1'));
    await expect(loadConfig(file, {})).rejects.toMatchObject({
      code: 'config',
      message: expect.stringContaining('is not text in UTF-8'),
    });
    writeFileSync(file, 'sink: { url: "file:///é" }');
    expect((await loadConfig(file, {})).sinks[0]?.sink.url).toBe('file:///é');
    rmSync(folder, { recursive: true });
  });

  test('survives a YAML bomb', () => {
    const levels = Array.from(
      { length: 12 },
      (_, i) =>
        `l${i}: &l${i} [${Array(12)
          .fill(i === 0 ? 'x' : `*l${i - 1}`)
          .join(', ')}]`,
    );
    expect(fault(levels.join('\n'))).toMatch(/alias|not valid/i);
  });
});
