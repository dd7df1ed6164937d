import { describePath } from '../../evidence/member-path.ts';
import { type VolumeRecord, volumeSchema } from '../../evidence/volumes.ts';
import type { DeletedOpen } from '../host/deleted-open.ts';
import type { Space } from '../host/mount-reach.ts';
import { bytesOf, sourceOf } from '../host/mount-table.ts';
import type { VolumeOutcome } from './volumes-capture.ts';
import type { Volume } from './volumes-find.ts';

/** Deleted files told of one mount; the artifact `processes` has all of them. */
const DELETED_MAX = 1000;

export interface Learned {
  readonly space: Space | undefined;
  readonly outcome: VolumeOutcome | undefined;
  readonly deletedOpen: readonly DeletedOpen[];
}

/** The line of one mount. */
export function volumeRecord(volume: Volume, { space, outcome, deletedOpen }: Learned): VolumeRecord {
  const { mount, classified, decision, ofContainer, sameAs } = volume;
  const { deleted } = sourceOf(mount);
  const { runtime, hostPath, plugin, name } = classified;
  const given = {
    volume: volume.number,
    class: classified.class,
    ...worded('containerPath', mount.mountPoint),
    mountNamespace: volume.space.namespace.replaceAll(/\D/g, ''),
    pid: volume.space.pid,
    ofContainer,
    mountId: mount.id,
    parentId: mount.parentId,
    device: mount.device,
    ...worded('root', mount.root),
    ...worded('source', mount.source),
    fileSystem: mount.type,
    options: mount.options,
    superOptions: mount.superOptions,
    propagation: mount.propagation,
    sourceDeleted: deleted ? true : undefined,
    ...(hostPath === undefined ? {} : worded('hostPath', hostPath)),
    runtime: runtime && { hostPath: runtime.hostPath, type: runtime.type, readOnly: runtime.readOnly },
    plugin,
    name: name === undefined ? undefined : describePath(bytesOf(name)).path,
    memoryBacked: classified.memoryBacked,
    space,
    policy: { taken: decision.taken, why: decision.why },
    sameAs,
    counts: outcome?.counts,
    complete: outcome?.complete,
    deletedOpen: deletedOpen.length === 0 ? undefined : deletedOpen.slice(0, DELETED_MAX).map(deletedLine),
  };
  return volumeSchema.parse(given);
}

function deletedLine({ heldBy, path, inode }: DeletedOpen) {
  return { heldBy, ...worded('path', path), inode };
}

/** Latin-1 as words, and as bytes where it is not UTF-8. */
function worded<Name extends string>(name: Name, text: string): Record<string, string | undefined> {
  const { path, pathBase64 } = describePath(bytesOf(text));
  return { [name]: path, [`${name}Base64`]: pathBase64 };
}
