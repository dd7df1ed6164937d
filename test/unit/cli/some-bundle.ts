import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Encrypt } from '../../../evidence/age-writer.ts';
import { REQUEST_OBJECT } from '../../../evidence/layout.ts';
import type { ArtifactRecord, Manifest, RequestRecord, StoredObject } from '../../../evidence/manifest.ts';
import { generateSigner, type Signer } from '../../../evidence/seal.ts';
import { type BundleWriter, createBundleWriter, type OpenObject } from '../../../evidence/write.ts';
import { CAPTURE_ID } from './fake-agent.ts';

/** A small sealed bundle in a temporary folder, written by the real writer. */
export interface SomeBundle extends AsyncDisposable {
  /** A folder for the test, removed at the end; the bundle is in it. */
  readonly folder: string;
  readonly bundle: string;
  readonly signer: Signer;
}

type Stored = Partial<Record<'processes' | 'rootfs' | 'memory' | 'spec' | 'image', string[]>>;

export interface Contents {
  /** Writes objects; returns the names of those of each artifact. */
  readonly fill?: (writer: BundleWriter) => Promise<Stored>;
  readonly seal?: boolean;
  /** Content of a frame; the writer's own size when absent. */
  readonly frameBytes?: number;
  readonly encrypt?: Encrypt;
}

export const NOT_UTF8 = Buffer.from([0x6e, 0xff, 0x6d]);
export const HOSTILE_NAME = 'a\x1b[2J\n\u202egpj.exe';
/** More than a pipe holds, and more than one frame. */
export const BIG_BYTES = 3 * 1024 * 1024;

/** An archive of every kind of member, and an archive whose members are listed beside it. */
async function fillAll(writer: BundleWriter): Promise<Stored> {
  await using processes = await writer.openArchive('processes.tar.zst');
  await processes.add({ path: '17/', type: 'directory' });
  await processes.add({ path: '17/cmdline', type: 'file', sizeBytes: 6 }, Buffer.from('sh\0-c\0'));
  await processes.add(
    { path: '17/status', type: 'file', sizeBytes: 22 },
    Buffer.from('Name: sh\nEvil: \x1b[2J\u00e4\n'),
  );
  await processes.add({ path: '17/exe', type: 'symlink', linkPath: '/etc/passwd' });
  await processes.add({ path: '../../escape', type: 'file', sizeBytes: 4 }, Buffer.from('out!'));
  await processes.add({ path: NOT_UTF8, type: 'file', sizeBytes: 5 }, Buffer.from('bytes'));
  await processes.add({ path: HOSTILE_NAME, type: 'file', sizeBytes: 1 }, Buffer.from('x'));
  await processes.add({ path: 'big', type: 'file', sizeBytes: BIG_BYTES }, Buffer.alloc(BIG_BYTES, 'abcdefgh\n'));
  await processes.commit();
  await using rootfs = await writer.openArchive('rootfs.tar.zst', {
    mediaType: 'ociLayer',
    membersIn: 'inventory.jsonl.zst',
  });
  const { member } = await rootfs.add({ path: 'etc/motd', type: 'file', sizeBytes: 3 }, Buffer.from('hi\n'));
  await rootfs.commit();
  await using inventory = await writer.openText('inventory.jsonl.zst', 'jsonl');
  await inventory.line(JSON.stringify({ ...member, mode: 420 }));
  await inventory.line(JSON.stringify({ path: 'run/socket', type: 'socket', sizeBytes: 0, inArchive: false }));
  await inventory.commit();
  return { processes: ['processes.tar.zst'], rootfs: ['inventory.jsonl.zst', 'rootfs.tar.zst'] };
}

export async function someBundle(contents: Contents = {}): Promise<SomeBundle> {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-cli-'));
  const bundle = path.join(folder, CAPTURE_ID);
  await mkdir(bundle);
  const signer = generateSigner();
  const objects: StoredObject[] = [];
  const writer = createBundleWriter(intoFolder(bundle), {
    onStored: (object) => void objects.push(object),
    encrypt: contents.encrypt,
    ...(contents.frameBytes === undefined ? {} : { frameBytes: contents.frameBytes }),
  });
  await writer.writeJson(REQUEST_OBJECT, request(signer));
  const stored = await (contents.fill ?? fillAll)(writer);
  const more = (['spec', 'image'] as const).filter((name) => stored[name] !== undefined);
  const names = [...(['processes', 'memory', 'rootfs'] as const), ...more];
  const artifacts = names.map((name) => artifact(name, stored[name] ?? []));
  if (contents.seal !== false) await writer.seal(manifest(signer, artifacts, objects), signer);
  return { folder, bundle, signer, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
}

function intoFolder(folder: string): OpenObject {
  return async (name) => {
    const handle = await open(path.join(folder, name), 'wx');
    let closed = false;
    const close = async () => {
      if (!closed) await handle.close();
      closed = true;
    };
    return {
      write: (chunk) => handle.writeFile(chunk),
      commit: close,
      [Symbol.asyncDispose]: close,
    };
  };
}

const AT = '2026-03-01T12:00:00.000Z';
const COMMON = { formatVersion: 1, captureId: CAPTURE_ID, cluster: 'c1', node: 'n1' } as const;
const TARGET = {
  runtime: 'containerd',
  kind: 'container',
  id: '0123456789abcdef',
  name: 'app',
  labels: {},
  initPid: 17,
  pids: [17],
} as const;

function agent(signer: Signer): Manifest['agent'] {
  return { name: 'exhibit', version: '0.1.0', nodeVersion: 'v24', pid: 1, keyId: signer.keyId };
}

function request(signer: Signer): RequestRecord {
  return {
    ...COMMON,
    requestedAt: AT,
    requester: { trigger: 'socket', identity: 'uid 0' },
    selector: 'prod/web-0',
    artifacts: ['processes', 'memory', 'rootfs'],
    runtime: { name: 'containerd', version: '2.1.1' },
    target: { ...TARGET, pids: [17] },
    plan: { consistency: 'frozen', freezeDeadlineMs: 1000, bufferBytes: 0, steps: [] },
    agent: agent(signer),
    host: {
      hostname: 'n1',
      kernel: '6.18',
      machine: 'x86_64',
      bootId: 'b',
      bootTime: AT,
      clock: { wall: AT, timezone: 'UTC' },
    },
  };
}

function artifact(name: ArtifactRecord['name'], objects: string[]): ArtifactRecord {
  const failed = objects.length === 0;
  return {
    name,
    status: failed ? 'failed' : 'captured',
    ...(failed ? { reason: 'ptrace is not permitted' } : {}),
    objects,
    gaps: [],
    gapCount: 0,
    notes: [],
    facts: {},
    startedAt: AT,
    finishedAt: AT,
    footprint: { wallMs: 1, cpuMs: 1, pauseMs: 0, bytesRead: 0, bytesStored: 0, filesOpened: 0 },
  };
}

function manifest(signer: Signer, artifacts: ArtifactRecord[], objects: StoredObject[]): Manifest {
  return {
    ...COMMON,
    outcome: 'partial',
    startedAt: AT,
    finishedAt: AT,
    target: { ...TARGET, pids: [17] },
    freeze: { consistency: 'frozen', method: 'containerd', pauseMs: 1, notes: [] },
    artifacts,
    objects,
    agent: agent(signer),
    nodeBytesWritten: 0,
  };
}
