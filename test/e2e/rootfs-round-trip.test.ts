import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MEDIA_TYPES } from '../../evidence/layout.ts';
import { type LabDocker, startDocker } from '../lab/docker.ts';
import { gzipLayer, type Layer, layoutTar } from '../lab/image.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import { dockerObstacle, labObstacle } from '../lab/requires.ts';
import {
  captureOverlay,
  changedOverlay,
  type Mutation,
  mergedView,
  overlayObstacle,
  type View,
  type ViewEntry,
  viewOf,
} from './overlay-trees.ts';
import { shell } from './readers.ts';

/**
 * The layer over its image, applied by those who will: as an image of two layers, base and writable layer, that containerd and
 * Docker unpack. What they make of it is compared with the kernel's merged view of the container's root.
 */

const TREES: ReadonlyArray<{ name: string; mutation: Mutation }> = [
  { name: 'changed at random', mutation: { kind: 'random', seed: 31 } },
  { name: 'changed at random otherwise', mutation: { kind: 'random', seed: 32 } },
  { name: 'made to go wrong', mutation: { kind: 'hostile' } },
];
const OPTIONS = 'redirect_dir=on,metacopy=on';
const reference = (at: string): string => `lab.exhibit/${path.basename(at).toLowerCase()}:1`;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'exhibit-round-trip-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** The folder of a changed tree with an OCI layout in it: `image.tar`. `asStored`: the layer is the bundle's object itself. */
async function image(mutation: Mutation, asStored: boolean): Promise<string> {
  const at = mkdtempSync(path.join(folder, 'tree-'));
  changedOverlay(at, mutation, OPTIONS);
  const bundle = await captureOverlay(at);
  expect(bundle.gaps).toEqual([]);
  shell('tar -C "$1/base" --format=pax --numeric-owner --xattrs --xattrs-include="*" -cf "$1/base.tar" .', at);
  const tar = readFileSync(path.join(at, 'layer.tar'));
  const stored: Layer = { mediaType: MEDIA_TYPES.ociLayer, data: readFileSync(bundle.at('rootfs.tar.zst')), tar };
  const layers = [gzipLayer(readFileSync(path.join(at, 'base.tar'))), asStored ? stored : gzipLayer(tar)];
  writeFileSync(path.join(at, 'image.tar'), await layoutTar(reference(at), layers, ['sh']));
  return at;
}

/** Puts the image where the node sees it, and says where that is. */
function hand(node: { hostRoot: string }, at: string): string {
  const inside = `/tmp/${path.basename(at)}.tar`;
  writeFileSync(path.join(node.hostRoot, inside), readFileSync(path.join(at, 'image.tar')));
  return inside;
}

/**
 * The container's root as programs in Go can restore it: they know no time before 1970, and do not undo GNU tar's `%3D` and
 * `%25` in names of attributes. containerd leaves out attributes `trusted.*`.
 */
function carried({ entries, links }: View, omitted?: string): View {
  const keeps = (name: string): boolean =>
    !/=|%3D|%25/.test(name) && (omitted === undefined || !name.startsWith(omitted));
  const one = (entry: ViewEntry): ViewEntry => ({
    ...entry,
    mtime: entry.mtime.startsWith('-') ? '0' : entry.mtime,
    xattrs: Object.fromEntries(Object.entries(entry.xattrs).filter(([name]) => keeps(name))),
  });
  return { entries: Object.fromEntries(Object.entries(entries).map(([name, entry]) => [name, one(entry)])), links };
}

const named = (name: string, obstacle: string | undefined) => (obstacle === undefined ? name : `${name}: ${obstacle}`);
const noContainerd = overlayObstacle ?? labObstacle();
const noDocker = overlayObstacle ?? dockerObstacle();

describe.skipIf(noContainerd !== undefined)(named('containerd', noContainerd), () => {
  let node: LabNode;
  beforeAll(async () => {
    node = await startNode({ disk: true });
  });
  afterAll(() => node[Symbol.asyncDispose]());

  async function ctr(...argv: string[]): Promise<void> {
    const { code, stderr } = await node.exec(['ctr', '-n', 'k8s.io', ...argv]);
    if (code !== 0) throw new Error(`ctr ${argv.join(' ')}: ${stderr}`);
  }

  test.for(TREES)('unpacks the object as it is stored into the container’s root ($name)', async ({ mutation }) => {
    const at = await image(mutation, true);
    await ctr('images', 'import', '--local', '--snapshotter', 'overlayfs', hand(node, at));
    const inside = `/mnt/${path.basename(at)}`;
    mkdirSync(path.join(node.hostRoot, inside));
    await ctr('images', 'mount', '--snapshotter', 'overlayfs', reference(at), inside);
    expect(carried(viewOf(path.join(node.hostRoot, inside)))).toEqual(carried(mergedView(at), 'trusted.'));
  });
});

describe.skipIf(noDocker !== undefined)(named('Docker', noDocker), () => {
  let node: LabDocker;
  beforeAll(async () => {
    node = await startDocker({ disk: true });
  });
  afterAll(() => node[Symbol.asyncDispose]());

  test.for(TREES)('loads the layer into the container’s root ($name)', async ({ mutation }) => {
    const at = await image(mutation, false);
    await node.docker('load', '--quiet', '--input', hand(node, at));
    const data = JSON.parse(
      await node.docker('image', 'inspect', '--format', '{{json .GraphDriver.Data}}', reference(at)),
    );
    const inside = `/mnt/${path.basename(at)}`;
    mkdirSync(path.join(node.hostRoot, inside));
    const lowers = `lowerdir=${data.UpperDir}:${data.LowerDir}`;
    const { code, stderr } = await node.exec(['mount', '-t', 'overlay', 'overlay', '-o', lowers, inside]);
    expect(`${code} ${stderr}`).toBe('0 ');
    expect(carried(viewOf(path.join(node.hostRoot, inside)))).toEqual(carried(mergedView(at)));
  });
});
