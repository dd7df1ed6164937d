import { ownText } from '../host/own-file.ts';

/** Where the agent's pod is granted what it may do. */
export const DAEMON_SET = 'manifests/base/agent/daemonset.yaml';

/**
 * All that the DaemonSet grants its pod, and what each is for: namespaces of the node, a token, root, capabilities, profiles that are
 * lifted, mounts.
 * A unit test holds this to the manifest, and test/e2e/daemonset-grants.test.ts takes each away and looks for what is lost.
 */
export const GRANTS = {
  hostPID: 'find, stop and trace processes by the pids that the runtime reports',
  automountServiceAccountToken: 'ask the API server on which node a pod is that is not here',
  runAsUser: 'be root, whose the sockets and files of the node are, and who alone has the capabilities',
  'cap:SYS_PTRACE': 'read memory, environment, descriptors and registers of other processes',
  'cap:SYS_ADMIN':
    'enter namespaces, so that a guard outlives the agent too, copy mounts of volumes, list eBPF programs',
  'cap:SYS_CHROOT': 'enter mount namespaces: volumes, and the memory that checkpoints go to',
  'cap:DAC_READ_SEARCH': 'read files of other users',
  'cap:FOWNER': 'leave access times of files of other users alone',
  'cap:NET_ADMIN': 'read packet filters and the connections that the kernel follows',
  'cap:KILL': 'stop processes of other users that have no cgroup of their own',
  'cap:SYS_NICE': 'come before the workload while a target stands still, and read the timer slack of processes',
  'cap:SYSLOG': 'read the log of the kernel where kernel.dmesg_restrict is set',
  appArmorProfile: 'mount and trace where a default profile refuses it',
  'mount:/host': "reach the node's files, /proc, control groups and kernel log",
  'mount:/run/exhibit':
    'keep the journal and the API socket, and share memory and FIFOs for checkpoints with the runtime',
  'mount:/run/containerd': "reach containerd's socket",
  'mount:/etc/exhibit': 'read the configuration',
} as const;

export type GrantId = keyof typeof GRANTS;

/** The manifest as it was shipped: the lines are those of the version that runs. */
let shipped: { readonly text: string | undefined } | undefined;

/**
 * Words that end a mend: `hostPID is granted by manifests/base/agent/daemonset.yaml:61 (find, ...)`, one for each, joined by `; `.
 * Without line numbers where the manifests are not shipped with the program.
 */
export function granted(...ids: readonly GrantId[]): string {
  shipped ??= { text: ownText(DAEMON_SET) };
  const { text } = shipped;
  return ids.map((id) => `${nameOf(id)} is granted by ${placeOf(text, id)} (${GRANTS[id]})`).join('; ');
}

/** `CAP_SYS_PTRACE`, `the mount of /host`, `hostPID`. */
function nameOf(id: GrantId): string {
  const [kind, name] = id.split(':');
  if (name === undefined) return id;
  return kind === 'cap' ? `CAP_${name}` : `the mount of ${name}`;
}

function placeOf(text: string | undefined, id: GrantId): string {
  const line = text === undefined ? undefined : lineOf(text, id);
  return line === undefined ? DAEMON_SET : `${DAEMON_SET}:${line}`;
}

/** The line that grants it, from 1; undefined where none does. */
export function lineOf(manifest: string, id: string): number | undefined {
  const [kind, name = ''] = id.split(':');
  const wanted = kind === 'cap' ? `- ${name}` : kind === 'mount' ? `mountPath: ${name}` : `${kind}:`;
  const index = manifest.split('\n').findIndex((line) => {
    const text = line.trim();
    return name === '' ? text === wanted || text.startsWith(`${wanted} `) : text === wanted;
  });
  return index < 0 ? undefined : index + 1;
}
