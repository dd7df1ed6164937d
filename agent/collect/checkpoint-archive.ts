/**
 * CRIU's files of one dump as the archive that CRI's checkpoints are, which checkpointctl, podman and CRI-O know:
 * `checkpoint/` with the images, `config.dump`, `spec.dump`, `dump.log`, `stats-dump`. The writable layer is not in it: it
 * is the artifact `rootfs`.
 */
import { canonicalJson } from '../../evidence/json.ts';
import { type DumpRoom, dropDumpFile, dumpNames, openDumpFile } from '../host/dump-folder.ts';
import type { Target } from '../runtime/runtime.ts';
import type { Archive, CollectContext } from './collector.ts';

export const DUMP_LOG = 'dump.log';
const IMAGES = 'checkpoint/';
const CONFIG = 'config.dump';
const SPEC = 'spec.dump';

/** Smaller files give too little memory back to be worth a system call. */
const DROP_BYTES = 1024 * 1024;

/** Fails only as the sink does; a file that cannot be read is a gap. Each file's memory is given back once it is stored. */
export async function storeDump(context: CollectContext, archive: Archive, room: DumpRoom): Promise<void> {
  const mtimeNs = BigInt(context.now()) * 1_000_000n;
  const add = (path: string, bytes: Uint8Array) =>
    archive.add({ path, type: 'file', sizeBytes: bytes.length, mtimeNs }, bytes);
  await archive.add({ path: IMAGES, type: 'directory', mode: 0o700, mtimeNs });
  let doneBytes = 0;
  const store = async (folder: string, name: string, path: string) => {
    const sizeBytes = await storeFile(context, archive, { folder, name, path });
    doneBytes += sizeBytes;
    context.progress(doneBytes);
  };
  for (const name of await dumpNames(room.images)) await store(room.images, name, `${IMAGES}${name}`);
  await add(CONFIG, canonicalJson(configOf(context.target, context.now())));
  await add(SPEC, specOf(context.target));
  for (const name of await dumpNames(room.work)) await store(room.work, name, name);
  context.note('the writable layer is not in the checkpoint: it is the artifact rootfs');
}

async function storeFile(
  context: CollectContext,
  archive: Archive,
  { folder, name, path }: { folder: string; name: string; path: string },
): Promise<number> {
  const file = openDumpFile(folder, name);
  if ('why' in file) {
    const { why, errno } = file;
    context.gap({ what: path, why, ...(errno === undefined ? {} : { errno }) });
    return 0;
  }
  using _ = file;
  const { sizeBytes, mtimeNs, outcome } = file;
  await archive.add({ path, type: 'file', sizeBytes, mtimeNs }, file.bytes(context.signal));
  context.read(outcome.bytes, 1);
  if (outcome.failure !== undefined)
    context.gap({ what: path, why: 'it could not be read to its end', errno: outcome.failure.errno });
  if (sizeBytes >= DROP_BYTES) await dropDumpFile(folder, name);
  return sizeBytes;
}

/** What checkpointctl shows of a container; the names are those of CRI's and podman's own file. */
function configOf({ record, createdAt, ociRuntime }: Target, now: number): unknown {
  const { id, name, pod, image } = record;
  return {
    id,
    name: pod === undefined ? name : [name, pod.name, pod.namespace, pod.uid].join('_'),
    ...(image === undefined ? {} : { rootfsImage: image.name, rootfsImageName: image.name, rootfsImageRef: image.id }),
    runtime: ociRuntime ?? record.runtime,
    createdTime: createdAt ?? new Date(0).toISOString(),
    checkpointedTime: new Date(now).toISOString(),
    restoredTime: '0001-01-01T00:00:00Z',
    restored: false,
  };
}

/** The OCI spec verbatim; where the runtime gave none, as much of one as the format's readers need. */
function specOf({ documents, record }: Target): Uint8Array {
  const spec = documents.find(({ name }) => name === 'oci-spec.json');
  return spec?.bytes ?? canonicalJson({ ociVersion: '1.0.0', annotations: record.labels });
}
