import type { tryMountCopy } from '../host/mount-copy.ts';
import type { NodeLogFacts } from '../host/node-logs.ts';
import { type Check, line } from './check.ts';
import { granted } from './grants.ts';

/** What single artifacts need that no other line says: copies of mounts, and the node's logs. */

export function checkVolumes(copy: Awaited<ReturnType<typeof tryMountCopy>>): Check {
  const say = line('agent', 'volumes');
  if (copy === 'quiet') return say.ok('mounts can be copied, read-only', 'volumes are read without a trace in them');
  if (copy === 'writable') {
    return say.warning(
      'mounts can be copied, and not be made read-only (mount_setattr came with Linux 5.12)',
      'links that are read on volumes get a new access time',
      'run a kernel of 5.12 or newer, or the agent without a seccomp profile',
    );
  }
  return say.warning(
    `mounts cannot be copied (${copy.errno})`,
    'volumes, emptyDir and /dev/shm will be gaps: their mounts are listed alone',
    copy.errno === 'ENOSYS'
      ? 'run a kernel of 5.2 or newer, or the agent without a seccomp profile'
      : `give the agent CAP_SYS_ADMIN and CAP_SYS_CHROOT, and no seccomp profile that refuses open_tree and setns: ${granted('cap:SYS_ADMIN', 'cap:SYS_CHROOT')}`,
  );
}

export function checkNodeLogs({ kernelLog, folders }: NodeLogFacts): Check {
  const say = line('agent', 'node-logs');
  const logs = [{ folder: '/dev/kmsg', errno: kernelLog }, ...folders];
  const readable = logs.filter(({ errno }) => errno === undefined).map(({ folder }) => folder);
  const missing = logs.filter(({ errno }) => errno === 'ENOENT').map(({ folder }) => folder);
  const refused = logs.filter(({ errno }) => errno !== undefined && errno !== 'ENOENT');
  const found = [
    ...(readable.length === 0 ? [] : [`${readable.join(', ')} can be read`]),
    ...(missing.length === 0 ? [] : [`the node has no ${missing.join(', ')}`]),
    ...refused.map(({ folder, errno }) => `${folder} is refused (${errno})`),
  ].join('; ');
  if (refused.length === 0) return say.ok(found, 'what the node wrote about a container is in the bundle');
  return say.warning(
    found,
    'what is refused will be a gap',
    `run the agent as root with CAP_DAC_READ_SEARCH, and with CAP_SYSLOG where kernel.dmesg_restrict is set: ${granted('cap:DAC_READ_SEARCH', 'cap:SYSLOG')}`,
  );
}
