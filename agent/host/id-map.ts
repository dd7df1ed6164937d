import { readFileSync } from 'node:fs';
import type { Host } from './host.ts';
import { procPath } from './host.ts';
import { type IdMapEntry, parseIdMap } from './process-small.ts';

/** Owner of a file, as numbers of one user namespace. */
export interface Owner {
  readonly uid: bigint;
  readonly gid: bigint;
}

/**
 * How the ids of a container's user namespace lie among the node's: user_namespaces(7). Files that the container made bear
 * the node's numbers; those of an image that is mounted id-mapped bear the container's own.
 */
export class IdMaps {
  readonly uids: readonly IdMapEntry[];
  readonly gids: readonly IdMapEntry[];

  constructor(uids: readonly IdMapEntry[], gids: readonly IdMapEntry[]) {
    this.uids = uids;
    this.gids = gids;
  }

  /** Undefined when the process has the node's own ids. Throws a system error: ENOENT when it has gone. */
  static read(host: Host, pid: number): IdMaps | undefined {
    const [uids, gids] = ['uid_map', 'gid_map'].map((name) => parseIdMap(readFileSync(procPath(host, pid, name))));
    return IdMaps.of(uids ?? [], gids ?? []);
  }

  static of(uids: readonly IdMapEntry[], gids: readonly IdMapEntry[]): IdMaps | undefined {
    return isIdentity(uids) && isIdentity(gids) ? undefined : new IdMaps(uids, gids);
  }

  /**
   * The container's numbers. An id that it has no number for, which it sees as the overflow id, stays the node's. So does an
   * owner of an image that is mounted id-mapped, whose files bear the container's numbers on the disk: no range that
   * kubelet gives begins below 65536.
   */
  inside({ uid, gid }: Owner): Owner {
    return { uid: insideOf(this.uids, uid) ?? uid, gid: insideOf(this.gids, gid) ?? gid };
  }

  has({ uid, gid }: Owner): boolean {
    return insideOf(this.uids, uid) !== undefined && insideOf(this.gids, gid) !== undefined;
  }

  /** The ids within an ACL as `system.posix_acl_*` has them; anything that is no such ACL is returned as it is. */
  insideAcl(acl: Buffer): Buffer {
    if (acl.length < ACL.headBytes || (acl.length - ACL.headBytes) % ACL.entryBytes !== 0) return acl;
    if (acl.readUInt32LE(0) !== ACL.version) return acl;
    const mapped = Buffer.from(acl);
    for (let at = ACL.headBytes; at < mapped.length; at += ACL.entryBytes) {
      const tag = mapped.readUInt16LE(at);
      const map = tag === ACL.user ? this.uids : tag === ACL.group ? this.gids : undefined;
      if (map === undefined) continue;
      const inside = insideOf(map, BigInt(mapped.readUInt32LE(at + ACL.idAt)));
      if (inside !== undefined) mapped.writeUInt32LE(Number(inside), at + ACL.idAt);
    }
    return mapped;
  }
}

/** include/uapi/linux/posix_acl_xattr.h: a version, then entries of tag, permissions and id, little endian. */
const ACL = { version: 2, headBytes: 4, entryBytes: 8, idAt: 4, user: 0x02, group: 0x08 } as const;

function insideOf(map: readonly IdMapEntry[], id: bigint): bigint | undefined {
  for (const { inside, outside, length } of map) {
    const offset = id - BigInt(outside);
    if (offset >= 0n && offset < BigInt(length)) return BigInt(inside) + offset;
  }
  return undefined;
}

/** All ids but the last, which is no id: what a process outside of every user namespace has. An empty map maps nothing. */
const ALL_IDS = 4_294_967_295;

function isIdentity(map: readonly IdMapEntry[]): boolean {
  const [only, more] = map;
  return more === undefined && only?.inside === 0 && only.outside === 0 && only.length >= ALL_IDS;
}
