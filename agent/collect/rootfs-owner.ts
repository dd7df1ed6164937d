import { errnoOf, explain } from '../../evidence/error.ts';
import { IdMaps } from '../host/id-map.ts';
import { idsOfSpec, remapsNobody } from '../host/id-map-spec.ts';
import type { SplitXattrs } from '../host/overlay.ts';
import type { CollectContext } from './collector.ts';

/** acl(5) as xattr(7) has them. They name users and groups, so in a user namespace they are shifted like owners. */
const ACLS = ['system.posix_acl_access', 'system.posix_acl_default'];

export function insideXattrs(xattrs: SplitXattrs, ids: IdMaps | undefined): SplitXattrs {
  if (ids === undefined || !ACLS.some((name) => xattrs.visible.has(name))) return xattrs;
  const visible = new Map(xattrs.visible);
  for (const name of ACLS) {
    const acl = visible.get(name);
    if (acl !== undefined) visible.set(name, ids.insideAcl(acl));
  }
  return { ...xattrs, visible };
}

/**
 * Of the container's first process, or as its OCI spec, or else Docker, has it when that process is gone; undefined when the container has
 * the node's ids, and when it cannot be known.
 */
export function containerIds(context: Pick<CollectContext, 'gap' | 'host' | 'target'>): IdMaps | undefined {
  const { record, documents } = context.target;
  try {
    return IdMaps.read(context.host, record.initPid);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    const spec = documents.find(({ name }) => name === 'oci-spec.json');
    const ids = spec && idsOfSpec(spec.bytes);
    if (ids !== undefined) return ids === 'none' ? undefined : ids;
    const info = documents.find(({ name }) => name === 'docker-info.json');
    if (info !== undefined && remapsNobody(info.bytes)) return undefined;
    context.gap({
      what: 'user namespace',
      why: `whether the container has ids of its own is not known, so owners are the node’s numbers: ${explain(error)}`,
      ...(record.initPid === 0 ? {} : { pid: record.initPid }),
      errno,
    });
    return undefined;
  }
}
