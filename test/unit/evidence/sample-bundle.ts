import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Encrypt } from '../../../evidence/age-writer.ts';
import type { BundleReader } from '../../../evidence/bundle.ts';
import { ExhibitError } from '../../../evidence/error.ts';
import { REQUEST_OBJECT } from '../../../evidence/layout.ts';
import type { ArtifactRecord, Manifest, RequestRecord, StoredObject } from '../../../evidence/manifest.ts';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { createBundleWriter } from '../../../evidence/write.ts';
import { openIn } from './memory-sink.ts';
import { archiveOf, SAMPLES } from './tar-samples.ts';

const TIME = '2026-11-22T10:00:00.000Z';

const target = {
  runtime: 'cri',
  kind: 'container' as const,
  id: 'c0ffee',
  name: 'shop',
  pod: { namespace: 'default', name: 'shop-1', uid: 'uid-1', sandboxId: 'box-1' },
  labels: { app: 'shop' },
  initPid: 4711,
  pids: [4711, 4712],
};

export function requestRecord(keyId: string): RequestRecord {
  return {
    formatVersion: 1,
    captureId: '0192f0c1-0000-7000-8000-000000000001',
    cluster: 'test',
    node: 'node-1',
    requestedAt: TIME,
    requester: { trigger: 'socket', identity: 'uid 0, pid 17' },
    caseId: 'CASE-7',
    reason: 'a test',
    selector: 'default/shop-1',
    artifacts: ['processes', 'rootfs', 'checkpoint'],
    runtime: { name: 'containerd', version: '2.1.9' },
    target,
    plan: { consistency: 'frozen', freezeDeadlineMs: 5000, bufferBytes: 1024, steps: [] },
    agent: { name: 'exhibit', version: '0.1.0', nodeVersion: 'v24', pid: 1, keyId },
    host: {
      hostname: 'node-1',
      kernel: '6.18',
      machine: 'x86_64',
      bootId: 'boot',
      bootTime: TIME,
      clock: { wall: TIME, timezone: 'UTC' },
    },
  };
}

function artifact(name: ArtifactRecord['name'], objects: string[]): ArtifactRecord {
  const footprint = { wallMs: 1, cpuMs: 1, pauseMs: 0, bytesRead: 1, bytesStored: 1, filesOpened: 1 };
  const times = { startedAt: TIME, finishedAt: TIME };
  return { name, status: 'captured', objects, gaps: [], gapCount: 0, notes: [], facts: {}, ...times, footprint };
}

const LARGER = [
  artifact('rootfs', ['rootfs.tar.zst', 'inventory.jsonl.zst', 'bodyfile.zst']),
  artifact('checkpoint', ['checkpoint.tar.zst']),
];

export interface SampleBundle {
  readonly objects: Map<string, Buffer>;
  readonly manifest: Manifest;
  readonly signer: Signer;
}

/** A small bundle with every kind of object, made with the writers that the agent uses. `tiny` has processes only. */
export async function sampleBundle(
  signer: Signer = generateSigner(),
  tiny = false,
  encrypt?: Encrypt,
): Promise<SampleBundle> {
  const objects = new Map<string, Buffer>();
  const stored: StoredObject[] = [];
  const writer = createBundleWriter(openIn(objects), {
    frameBytes: 4096,
    onStored: (object) => stored.push(object),
    encrypt,
  });
  const request = requestRecord(signer.keyId);
  await writer.writeJson(REQUEST_OBJECT, request);
  await writeProcesses(writer);
  if (!tiny) {
    await writeRootfs(writer);
    await writeCheckpoint(writer);
  }
  const manifest: Manifest = {
    formatVersion: 1,
    captureId: request.captureId,
    cluster: request.cluster,
    node: request.node,
    outcome: 'complete',
    startedAt: TIME,
    finishedAt: TIME,
    target,
    freeze: { consistency: 'frozen', method: 'containerd', pauseMs: 12.5, notes: [] },
    artifacts: [artifact('processes', ['processes.tar.zst']), ...(tiny ? [] : LARGER)],
    objects: stored,
    agent: request.agent,
    nodeBytesWritten: 0,
  };
  await writer.seal(manifest, signer);
  return { objects, manifest, signer };
}

type Writer = ReturnType<typeof createBundleWriter>;

async function writeProcesses(writer: Writer): Promise<void> {
  await using archive = await writer.openArchive('processes.tar.zst');
  await archive.add({ path: '4711/status', type: 'file', sizeBytes: 12 }, Buffer.from('Name:\tshop\n\n'));
  await archive.add({ path: '4711/exe', type: 'file', sizeBytes: 20_000 }, Buffer.alloc(20_000, 'ELF '));
  await archive.add({ path: '4711/cwd', type: 'symlink', linkPath: '/srv' });
  await archive.commit();
}

async function writeRootfs(writer: Writer): Promise<void> {
  await using archive = await writer.openArchive('rootfs.tar.zst', {
    mediaType: 'ociLayer',
    membersIn: 'inventory.jsonl.zst',
  });
  await using inventory = await writer.openText('inventory.jsonl.zst', 'jsonl');
  for (const { header, body } of SAMPLES) {
    const { member } = await archive.add(header, body);
    await inventory.line(JSON.stringify({ ...member, uid: header.uid ?? 0 }));
  }
  await inventory.line(JSON.stringify({ path: 'run/sock', type: 'socket', sizeBytes: 0, inArchive: false }));
  await using bodyfile = await writer.openText('bodyfile.zst', 'bodyfile');
  await bodyfile.line('0|/tmp/dropper|12|r/rrwxr-xr-x|0|0|4|1|2|3|4');
  await bodyfile.commit();
  await archive.commit();
  await inventory.commit();
}

/** A reader of what is in memory. */
export function readerOf(objects: ReadonlyMap<string, Uint8Array>, pieceBytes = 1000): BundleReader {
  return {
    url: 'memory:',
    async *list() {
      for (const [name, bytes] of objects) yield { name, sizeBytes: bytes.length };
    },
    async *read(name, range) {
      const bytes = objects.get(name);
      if (bytes === undefined) throw new ExhibitError('bundle-not-found', `no ${name}`);
      const part = bytes.subarray(range?.start ?? 0, range?.end ?? bytes.length);
      for (let at = 0; at < part.length; at += pieceBytes) yield part.subarray(at, at + pieceBytes);
    },
    async [Symbol.asyncDispose]() {},
  };
}

export async function writeTo(folder: string, objects: ReadonlyMap<string, Uint8Array>): Promise<void> {
  for (const [name, bytes] of objects) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), bytes);
  }
}

async function writeCheckpoint(writer: Writer): Promise<void> {
  await using checkpoint = await writer.openForeignArchive('checkpoint.tar.zst');
  await checkpoint.write((await archiveOf(SAMPLES)).bytes);
  await checkpoint.commit();
}
