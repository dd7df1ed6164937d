import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { argumentOf, criuImageObstacle, unpackCriuImage } from '../lab/criu-image.ts';
import { run } from '../lab/machine.ts';

/** The image that puts criu on nodes, as a real Docker has built it. */

let obstacle: string | undefined;
let folder: string;
/** What is in the image. */
let image: string;

beforeAll(async () => {
  obstacle = criuImageObstacle();
  if (obstacle !== undefined) return;
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-criu-image-'));
  image = await unpackCriuImage(folder);
});
afterAll(() => {
  if (folder !== undefined) rmSync(folder, { recursive: true });
});
beforeEach((context) => {
  if (obstacle !== undefined) context.skip(obstacle);
});

const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

describe('the image that puts criu on nodes', () => {
  test('has one criu that needs no library and no loader, by the words of readelf, ldd and its own', async () => {
    const criu = path.join(image, 'criu');
    const headers = (await run('readelf', ['--wide', '--program-headers', criu])).stdout.toString();
    expect(headers).toMatch(/^ {2}LOAD /m);
    expect(headers).not.toMatch(/INTERP|DYNAMIC/);
    const ldd = await run('ldd', [criu]);
    expect(ldd.stdout.toString() + ldd.stderr).toMatch(/not a dynamic executable/);
    expect((await run(criu, ['--version'])).stdout.toString()).toContain(`Version: ${argumentOf('CRIU')}`);
    expect(statSync(criu).size).toBeLessThan(4 * 2 ** 20);
  });

  test('has the source of criu, a licence for each package in it, and lists them all', () => {
    const source = `source/criu_${argumentOf('CRIU')}.orig.tar.xz`;
    expect(sha256(path.join(image, source))).toBe(argumentOf('CRIU_SHA256'));
    for (const name of ['Dockerfile', 'build.sh', 'sbom.sh'])
      expect(readFileSync(path.join(image, 'source', name), 'utf8')).toBe(readFileSync(component(name), 'utf8'));
    expect(readFileSync(path.join(image, 'licences/criu/COPYING'), 'utf8')).toContain('GNU GENERAL PUBLIC LICENSE');
    const bill = sbom.parse(JSON.parse(readFileSync(path.join(image, 'sbom.spdx.json'), 'utf8')));
    const licensed = readdirSync(path.join(image, 'licences')).filter((name) => name !== 'common');
    expect(bill.packages.map(({ name }) => name).sort()).toEqual(licensed.sort());
    const linked = bill.relationships.filter(({ relationshipType }) => relationshipType === 'STATIC_LINK');
    expect(linked.map(({ relatedSpdxElement }) => relatedSpdxElement)).toEqual(
      expect.arrayContaining(['libc6-dev', 'libnl-3-dev', 'libprotobuf-c-dev'].map((name) => `SPDXRef-debian-${name}`)),
    );
    expect(bill.packages.find(({ name }) => name === 'criu')?.sourceInfo).toContain(sha256(path.join(image, 'criu')));
  });
});

const component = (name: string): string =>
  fileURLToPath(new URL(`../../manifests/components/criu-host/${name}`, import.meta.url));

const sbom = z.object({
  spdxVersion: z.literal('SPDX-2.3'),
  packages: z.array(z.object({ name: z.string(), versionInfo: z.string().min(1), sourceInfo: z.string() })),
  relationships: z.array(z.object({ relationshipType: z.string(), relatedSpdxElement: z.string() })),
});
