import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ArtifactName } from '../../../../evidence/layout.ts';
import type { ArtifactRecord, Manifest, RequestRecord, StoredObject } from '../../../../evidence/manifest.ts';
import { generateSigner } from '../../../../evidence/seal.ts';
import { createBundleWriter } from '../../../../evidence/write.ts';
import { requestRecord } from '../sample-bundle.ts';

/** Sealed bundles in a temporary folder, with the objects that a test of timelines needs. */
export interface TimelineBundle extends AsyncDisposable {
  readonly folder: string;
}

export interface Contents {
  /** Archives by name; members by path. */
  readonly archives?: Readonly<Record<string, Readonly<Record<string, string | Buffer>>>>;
  /** JSON-lines objects by name: values, or a line as it is. */
  readonly lists?: Readonly<Record<string, readonly (object | string)[]>>;
  readonly artifacts?: Readonly<Partial<Record<ArtifactName, readonly string[]>>>;
  readonly manifest?: Partial<Manifest>;
  readonly request?: Partial<RequestRecord>;
}

/** When everything in the manifest happened, where a test says nothing else. */
export const CAPTURED_AT = '2026-11-22T10:00:00.000Z';

export async function timelineBundle(contents: Contents): Promise<TimelineBundle> {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-timeline-test-'));
  const objects: StoredObject[] = [];
  const signer = generateSigner();
  const writer = createBundleWriter(
    async (name) => {
      const handle = await open(path.join(folder, name), 'wx');
      let isOpen = true;
      const close = async () => {
        if (isOpen) await handle.close();
        isOpen = false;
      };
      return { write: (chunk) => handle.writeFile(chunk), commit: close, [Symbol.asyncDispose]: close };
    },
    { onStored: (object) => void objects.push(object), frameBytes: 64 * 1024 },
  );
  const request = { ...requestRecord(signer.keyId), ...contents.request };
  await writer.writeJson('request.json', request);
  for (const [name, members] of Object.entries(contents.archives ?? {})) {
    await using archive = await writer.openArchive(name);
    for (const [member, content] of Object.entries(members)) {
      const bytes = Buffer.from(content);
      await archive.add({ path: member, type: 'file', sizeBytes: bytes.length }, bytes);
    }
    await archive.commit();
  }
  for (const [name, lines] of Object.entries(contents.lists ?? {})) {
    await using list = await writer.openText(name, 'jsonl');
    for (const line of lines) await list.line(typeof line === 'string' ? line : JSON.stringify(line));
    await list.commit();
  }
  const { captureId, cluster, node, target, agent } = request;
  await writer.seal(
    {
      ...{ formatVersion: 1, captureId, cluster, node, target, agent, objects, nodeBytesWritten: 0 },
      ...{ outcome: 'complete', startedAt: CAPTURED_AT, finishedAt: CAPTURED_AT },
      freeze: { consistency: 'frozen', method: 'containerd', pauseMs: 12.5, notes: [] },
      artifacts: Object.entries(contents.artifacts ?? {}).map(([name, names]) => artifactRecord(name, names)),
      ...contents.manifest,
    },
    signer,
  );
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
}

export function artifactRecord(name: string, objects: readonly string[]): ArtifactRecord {
  return {
    name: name as ArtifactName,
    status: 'captured',
    objects: [...objects],
    gaps: [],
    gapCount: 0,
    notes: [],
    facts: {},
    startedAt: CAPTURED_AT,
    finishedAt: CAPTURED_AT,
    footprint: { wallMs: 1, cpuMs: 1, pauseMs: 0, bytesRead: 1, bytesStored: 1, filesOpened: 1 },
  };
}

/** A line of an inventory; the four times are different, in ns of the order m, a, c, b. */
export function inventoryLine(fields: Readonly<Record<string, unknown>> = {}): object {
  return {
    path: 'tmp/dropper',
    type: 'file',
    sizeBytes: 4,
    sha256: 'ab'.repeat(32),
    inode: '12',
    dev: '1',
    nlink: 1,
    mode: '4755',
    uid: 0,
    gid: 7,
    mtimeNs: '1700000000123456789',
    atimeNs: '1700000100000000000',
    ctimeNs: '1700000200000000001',
    birthNs: '1700000000000000000',
    allocatedBytes: 4096,
    change: 'added',
    ...fields,
  };
}
