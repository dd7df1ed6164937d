import { mkdirSync, writeFileSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { AGENT_ENVIRONMENT } from '../../agent/environment.ts';
import packageJson from '../../package.json' with { type: 'json' };
import packageLock from '../../package-lock.json' with { type: 'json' };
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { EXHIBIT_IMAGE, exhibitImage, imageObstacle, requireExhibitImage } from '../lab/exhibit-image.ts';

/** The image as a real Docker builds, keeps and runs it. */

interface SpdxPackage {
  readonly name: string;
  readonly versionInfo: string;
}

let docker: LabDocker;
/** Every path in the image, without a slash in front. */
let files: readonly string[];

const inImage = async (path: string): Promise<string> => {
  const id = await docker.docker('create', EXHIBIT_IMAGE);
  await docker.docker('cp', `${id}:${path}`, '/tmp/copied');
  const { stdout } = await docker.exec(['cat', '/tmp/copied']);
  await docker.docker('rm', id);
  return stdout.toString();
};

beforeAll(async () => {
  if (imageObstacle() !== undefined) return;
  const { tar } = await exhibitImage();
  docker = await startDocker({ hostname: 'lab-image' });
  await copyFile(tar, join(docker.hostRoot, 'tmp/image.tar'));
  await docker.docker('load', '--input', '/tmp/image.tar');
  const id = await docker.docker('create', EXHIBIT_IMAGE);
  await docker.docker('export', '--output', '/tmp/root.tar', id);
  await docker.docker('rm', id);
  const { stdout } = await docker.exec(['tar', '-tf', '/tmp/root.tar']);
  files = stdout.toString().trim().split('\n');
}, 300_000);
afterAll(() => docker?.[Symbol.asyncDispose]());
beforeEach((context) => requireExhibitImage(context));

describe('the container image', () => {
  test('says the version of package.json, in words and in its label', async () => {
    const said = await docker.docker('run', '--rm', '--network', 'none', EXHIBIT_IMAGE, '--version');
    expect(said).toBe(packageJson.version);
    const labels = JSON.parse(
      await docker.docker('image', 'inspect', '--format', '{{json .Config.Labels}}', EXHIBIT_IMAGE),
    ) as Record<string, string>;
    expect(labels['org.opencontainers.image.version']).toBe(packageJson.version);
    expect(labels['org.opencontainers.image.licenses']).toBe('Apache-2.0');
  });

  test('has what runs and the manifest whose lines the doctor names, and neither tests, pages, a shell nor tools of development', () => {
    const has = (path: string) => files.includes(path) || files.includes(`${path}/`);
    for (const path of [
      'agent/main.ts',
      'controller/main.ts',
      'proto/exhibit/v1',
      'manifests/base/agent/daemonset.yaml',
    ])
      expect([path, has(`opt/exhibit/${path}`)]).toEqual([path, true]);
    expect(has('usr/local/bin/exhibit')).toBe(true);
    const own = files.filter((path) => path.startsWith('opt/exhibit/'));
    expect(own.filter((path) => /^opt\/exhibit\/(test|bench|docs|demo|container-image|\.git)\//.test(path))).toEqual(
      [],
    );
    const locked = packageLock.packages as Readonly<Record<string, { dev?: boolean }>>;
    // Types of Node come with protobufjs as well.
    const ofDevelopment = Object.keys(packageJson.devDependencies).filter(
      (name) => locked[`node_modules/${name}`]?.dev,
    );
    expect(ofDevelopment.length).toBeGreaterThan(5);
    for (const name of ofDevelopment) expect([name, has(`opt/exhibit/node_modules/${name}`)]).toEqual([name, false]);
    for (const name of Object.keys(packageJson.dependencies))
      expect([name, has(`opt/exhibit/node_modules/${name}`)]).toEqual([name, true]);
    expect(files.filter((path) => /^(usr\/)?bin\/(sh|bash|dash|busybox)$/.test(path))).toEqual([]);
  });

  test('lists every package that is in it, with its licence', async () => {
    const { packages } = JSON.parse(await inImage('/opt/exhibit/sbom.spdx.json')) as { packages: SpdxPackage[] };
    const listed = new Set(packages.map(({ name, versionInfo }) => `${name}@${versionInfo}`));
    const manifests = files.filter((path) =>
      /^opt\/exhibit\/node_modules\/(.*\/node_modules\/)?(@[^/]+\/)?[^/]+\/package\.json$/.test(path),
    );
    expect(manifests.length).toBeGreaterThan(50);
    const { stdout } = await docker.exec(['tar', '-xOf', '/tmp/root.tar', ...manifests]);
    const parts = stdout.toString().split(/(?<=^\})\s*(?=\{)/m);
    const installed = parts.map((text) => JSON.parse(text) as { name: string; version: string });
    expect(installed.length).toBe(manifests.length);
    expect(installed.filter(({ name, version }) => !listed.has(`${name}@${version}`))).toEqual([]);
    const licences = await inImage('/opt/exhibit/licences.txt');
    expect(installed.filter(({ name, version }) => !licences.includes(`${name} ${version} (`))).toEqual([]);
    // What the base brings: Node, and packages of Debian.
    expect(packages.map(({ name }) => name)).toEqual(expect.arrayContaining(['node', 'libc6', 'ca-certificates']));
  });

  test('loads the binaries that packages bring, below a root that nobody may write', async () => {
    const program = `
      const { createRequire } = await import('node:module');
      const require = createRequire('/opt/exhibit/agent/main.ts');
      const ffi = require('koffi');
      const id = ffi.load('libc.so.6').func('int getuid()')();
      const yara = await import(require.resolve('@virustotal/yara-x')).then((found) => Object.keys(found).length > 0);
      console.log(JSON.stringify({ id, yara }));`;
    const said = await docker.docker(
      ...['run', '--rm', '--read-only', '--network', 'none', '--entrypoint', '/nodejs/bin/node'],
      ...[EXHIBIT_IMAGE, '--input-type=module', '-e', program],
    );
    expect(JSON.parse(said)).toEqual({ id: 0, yara: true });
  });

  test('is healthy while an agent in it answers, and not when it does not', async () => {
    const folder = join(docker.hostRoot, 'tmp/etc');
    mkdirSync(folder);
    writeFileSync(
      join(folder, 'agent.yaml'),
      'runtime: { kind: host }\nsink: { url: file:///run/evidence }\nmetrics: { listen: 127.0.0.1:9500 }\n',
    );
    const environment = Object.entries(AGENT_ENVIRONMENT).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    const start = (...argv: string[]) =>
      docker.docker(
        ...['run', '--detach', '--network', 'none', '--read-only', '--tmpfs', '/run', '--privileged', '--pid', 'host'],
        ...['--volume', '/tmp/etc:/etc/exhibit:ro', '--health-interval', '1s', '--health-start-period', '1s'],
        ...[...environment, ...argv],
      );
    const health = (id: string) => docker.docker('inspect', '--format', '{{.State.Health.Status}}', id);
    const agent = await start(EXHIBIT_IMAGE, 'agent', '--config', '/etc/exhibit/agent.yaml');
    const nobody = await start('--entrypoint', '/nodejs/bin/node', EXHIBIT_IMAGE, '-e', 'setInterval(() => 0, 1e6)');
    try {
      await vi.waitFor(async () => expect(await health(agent)).toBe('healthy'), { timeout: 60_000, interval: 500 });
      await vi.waitFor(async () => expect(await health(nobody)).toBe('unhealthy'), { timeout: 60_000, interval: 500 });
      expect(await docker.docker('exec', agent, 'exhibit', 'containers')).not.toBe('');
    } finally {
      await docker.docker('rm', '--force', agent, nobody);
    }
  });
});
