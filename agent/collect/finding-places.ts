import type { FindingReason, Severity } from '../../evidence/file-finding.ts';

/**
 * Which paths mean something, as data. Paths are below the container's root, without a slash at either end, one character a
 * byte. The rows follow the Filesystem Hierarchy Standard 3.0, Debian's, Red Hat's and Alpine's own layouts, and what
 * ATT&CK for containers lists under persistence (T1053, T1543, T1098.004, T1546, T1574.006). Pure.
 */
interface Row {
  readonly pattern: RegExp;
  readonly reason: FindingReason;
  readonly severity: Severity;
}

/** The first row that fits counts. */
const SYSTEM: readonly Row[] = [
  {
    pattern: /^(usr\/(local\/)?)?(s?bin|lib(32|64|x32|exec)?)\/./,
    reason: 'program-or-library',
    severity: 'high',
  },
  { pattern: /^etc\/(shadow|gshadow|sudoers|sudoers\.d\/.+|doas\.conf)$/, reason: 'accounts', severity: 'high' },
  { pattern: /^etc\/(passwd|group|subuid|subgid)$/, reason: 'accounts', severity: 'medium' },
  { pattern: /^etc\/(pam\.d|security|ssh)\/./, reason: 'login', severity: 'high' },
  { pattern: /^etc\/ld(\.so\.(conf|conf\.d\/.+|cache)|-musl-.+\.path)$/, reason: 'loader-path', severity: 'medium' },
  { pattern: /^etc\/(hosts|resolv\.conf|nsswitch\.conf)$/, reason: 'name-resolution', severity: 'medium' },
  {
    pattern: /^(etc\/(ssl|pki|ca-certificates)|usr\/(local\/)?share\/ca-certificates)(\/.|\.conf$)/,
    reason: 'trusted-certificates',
    severity: 'medium',
  },
  { pattern: /^etc\/(apt|apk|dnf|yum|yum\.repos\.d|zypp)\/./, reason: 'package-sources', severity: 'medium' },
];

const PERSISTENCE: readonly Row[] = [
  { pattern: /^etc\/ld\.so\.preload$/, reason: 'preload', severity: 'high' },
  { pattern: /(^|\/)\.ssh\/(authorized_keys2?|rc)$/, reason: 'ssh-key', severity: 'high' },
  {
    pattern:
      /^(etc\/(ana)?crontab|etc\/cron\.(d|hourly|daily|weekly|monthly)\/[^.].*|etc\/crontabs\/.+|var\/spool\/(cron|at)\/.+)$/,
    reason: 'cron',
    severity: 'medium',
  },
  {
    pattern:
      /^((etc|run|lib|usr\/(local\/)?lib)\/systemd\/(system|user)\/.+|etc\/(init\.d\/.+|rc\.local|rc[0-9S]\.d\/.+|inittab))$|(^|\/)\.config\/systemd\/user\/./,
    reason: 'unit',
    severity: 'medium',
  },
  {
    pattern:
      /^etc\/(profile|profile\.d\/.+|bash\.bashrc|bashrc|environment|zsh\/.+)$|(^|\/)\.(bashrc|bash_profile|bash_login|bash_logout|profile|zshrc|zprofile|zshenv)$/,
    reason: 'shell-start',
    severity: 'medium',
  },
  {
    pattern: /(^|\/)((site|user)customize\.py|(site|dist)-packages\/[^/]+\.pth)$/,
    reason: 'interpreter-start',
    severity: 'medium',
  },
];

const LOGS: readonly Row[] = [
  {
    pattern: /^var\/log\/.|^(var\/)?run\/utmp$|(^|\/)\.(\w+_history|history|lesshst|viminfo)$/,
    reason: 'log-or-history',
    severity: 'high',
  },
];

/** Where programs may write whoever runs them; the rest of a container's root is its packages' and its owner's. */
const WRITABLE: readonly Row[] = [
  { pattern: /^(var\/)?tmp\/./, reason: 'temporary-place', severity: 'high' },
  { pattern: /^(dev|(var\/)?run)\/./, reason: 'memory-place', severity: 'high' },
];

/** Folders in which programs make no dot files, and those that some make all the same. */
const NO_DOT_FILES =
  /^((var\/)?tmp|dev(\/shm)?|(var\/)?run|etc|(usr\/(local\/)?)?(s?bin|lib(32|64|x32|exec)?)|usr|usr\/(local|share)|var|var\/(lib|log|spool|cache)|boot|media|mnt|opt|srv)$/;
const USUAL_DOT_FILES = new Set(
  ['.X11-unix', '.ICE-unix', '.XIM-unix', '.font-unix', '.Test-unix', '.pwd.lock', '.updated', '.placeholder'].concat([
    '.gitkeep',
    '.keep',
    '.build-id',
  ]),
);

/** On a node: what kubelet and the runtime start or obey, beyond what any machine does; paths of kubeadm, EKS, k3s and CRI-O. */
const NODE: readonly Row[] = [
  {
    pattern:
      /^(etc\/kubernetes\/(manifests|static-pods?)|etc\/kubelet\.d|var\/lib\/rancher\/(k3s|rke2)\/(server\/manifests|agent\/pod-manifests))\/./,
    reason: 'static-pod',
    severity: 'high',
  },
  {
    pattern:
      /^(etc\/(cni\/net\.d|containerd|nri)|opt\/(cni\/bin|nri\/plugins)|usr\/libexec\/(cni|kubernetes)|(etc|usr\/share|usr\/local\/share)\/containers\/oci\/hooks\.d)\/.|^etc\/(docker\/daemon\.json|kubernetes\/kubelet.*|crio\/.+)$|^var\/lib\/kubelet\/config\.yaml$/,
    reason: 'node-runtime',
    severity: 'medium',
  },
];

export interface PlaceMeaning {
  readonly reason: FindingReason;
  readonly severity: Severity;
}

export const systemPlace = (path: string): PlaceMeaning | undefined => firstOf(SYSTEM, path);
export const persistencePlace = (path: string): PlaceMeaning | undefined => firstOf(PERSISTENCE, path);
export const nodePlace = (path: string): PlaceMeaning | undefined => firstOf(NODE, path);
export const logPlace = (path: string): PlaceMeaning | undefined => firstOf(LOGS, path);
export const writablePlace = (path: string): PlaceMeaning | undefined => firstOf(WRITABLE, path);

function firstOf(rows: readonly Row[], path: string): PlaceMeaning | undefined {
  return rows.find(({ pattern }) => pattern.test(path));
}

/** `folder` is the path of the directory that `name`, which begins with a dot, lies in. */
export function isUnusualDotFile(folder: string, name: string): boolean {
  return NO_DOT_FILES.test(folder) && !USUAL_DOT_FILES.has(name);
}
