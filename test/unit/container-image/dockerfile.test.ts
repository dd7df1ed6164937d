import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { EXHIBIT_IMAGE } from '../../lab/exhibit-image.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const read = (name: string) => readFileSync(path.join(ROOT, name), 'utf8');
const DOCKERFILE = read('Dockerfile');
/** Without comments, continued lines as one. */
const INSTRUCTIONS = DOCKERFILE.replaceAll(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((line) => line.trim() !== '');
const version = (JSON.parse(read('package.json')) as { version: string }).version;

describe('the Dockerfile', () => {
  test('pins both bases by digest, and builds from nothing else', () => {
    const bases = INSTRUCTIONS.filter((line) => /^ARG \w+_IMAGE=/.test(line));
    expect(bases.length).toBe(2);
    for (const base of bases) expect(base).toMatch(/^ARG \w+_IMAGE=[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}$/);
    const from = INSTRUCTIONS.filter((line) => line.startsWith('FROM '));
    expect(from).toEqual([
      expect.stringMatching(/^FROM \$\{RUNTIME_IMAGE\} AS runtime$/),
      expect.stringMatching(/^FROM \$\{BUILD_IMAGE\} AS build$/),
      'FROM runtime',
    ]);
  });

  test('has nothing that only BuildKit knows', () => {
    expect(DOCKERFILE).not.toMatch(/^#\s*syntax\s*=/m);
    for (const line of INSTRUCTIONS) {
      expect(line).not.toMatch(/^RUN\s+--/);
      expect(line).not.toMatch(/^(COPY|ADD)\s+--(link|chmod|parents|exclude)/);
      expect(line).not.toMatch(/<<-?\s*["']?\w/);
    }
  });

  test('runs nothing but npm ci and what puts the image together', () => {
    const runs = INSTRUCTIONS.filter((line) => line.startsWith('RUN '));
    expect(runs).toEqual([
      'RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund',
      expect.stringMatching(/^RUN SOURCE=.* node container-image\/assemble\.ts \/base \/image$/),
    ]);
  });

  test('checks the health by a program that is in the image, and not by a port of its own', () => {
    const check = INSTRUCTIONS.find((line) => line.startsWith('HEALTHCHECK ')) ?? '';
    const [, program = ''] = /CMD \["\/nodejs\/bin\/node", "\/opt\/exhibit\/([^"]+)"\]$/.exec(check) ?? [];
    expect(read(program)).toContain("for the image's HEALTHCHECK");
    expect(check).not.toMatch(/9464/);
  });

  test('has labels of OCI, and the version of package.json, as the manifests and the lab have it', () => {
    for (const label of ['title', 'description', 'licenses', 'version', 'revision', 'source'])
      expect(DOCKERFILE).toContain(`org.opencontainers.image.${label}=`);
    expect(INSTRUCTIONS).toContain(`ARG VERSION=${version}`);
    expect(EXHIBIT_IMAGE).toBe(`exhibit:${version}`);
    for (const name of ['agent/daemonset.yaml', 'controller/deployment.yaml'])
      expect(read(`manifests/base/${name}`)).toMatch(new RegExp(`^ +image: exhibit:${version}$`, 'm'));
  });
});

describe('what the builder is sent', () => {
  test('is a list of what goes in: no test, no page, no secret by accident', () => {
    const lines = read('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    expect(lines[0]).toBe('*');
    const sent = lines.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
    expect(sent.sort()).toEqual(
      ['LICENSE', 'agent', 'cli', 'container-image', 'controller', 'evidence', 'manifests/base', 'package-lock.json']
        .concat(['package.json', 'proto'])
        .sort(),
    );
  });
});
