import { z } from 'zod';
import { CHANGES } from './inventory.ts';

/**
 * One line of `rootfs.findings.jsonl.zst` or `volumes.findings.jsonl.zst`: something about a file that an analyst should look at first, with the facts that
 * make it so, so that a reader can check it. A finding is a fact, not a verdict: each kind has innocent causes
 * (docs/rootfs.md, docs/volumes.md). Big integers are decimal strings, as in the inventory.
 */

export const FINDING_KINDS = [
  /** Its times were set by a program, or contradict each other. */
  'timestomped',
  /** A set-user-ID or set-group-ID file that the image does not have like this. */
  'set-id',
  /** `security.capability` that the image does not have like this. */
  'file-capability',
  /** Something that can run, where anybody may write or where only memory is. */
  'executable-in-writable-place',
  /** Something that can run, of whose content no file of the image is. */
  'executable-not-in-image',
  'system-file-changed',
  /** Something that runs, or is read, by itself later: cron, units, keys, start-up files. */
  'persistence',
  /** A regular file of the image that the container no longer sees. */
  'image-file-deleted',
  /** Another content of the same size. */
  'same-size-edit',
  'hidden-name',
  'device-node',
  /** A log or history that leads to /dev/null, or was emptied. */
  'log-silenced',
] as const;
export type FindingKind = (typeof FINDING_KINDS)[number];

export const SEVERITIES = ['high', 'medium', 'low'] as const;
export type Severity = (typeof SEVERITIES)[number];

/** Why it is a finding, and what makes it weaker or stronger; the words are for people. */
export const FINDING_REASONS = {
  'mtime-restored': 'the content differs from the image’s and the modification time is the image’s, to the nanosecond',
  'mtime-before-birth': 'it claims to be older than its inode',
  'mtime-before-container': 'it claims to be older than the container that made it',
  'mtime-after-change': 'it claims to have been written after its inode was last changed',
  'mtime-in-future': 'its modification time has not come yet',
  'birth-after-change': 'its inode was made after it was last changed: the clock was set back',
  'whole-seconds': 'its modification time has no fraction of a second: touch -d and archives set it like this',
  'set-after-creation': 'the time was set more than a minute after the file was made',
  'among-many': 'many files were given older times in the same ten seconds, as archives and packages do',
  setuid: 'runs with its owner’s rights',
  setgid: 'runs with its group’s rights',
  'content-changed': 'the image has it like this, with another content',
  capability: 'runs with capabilities of its own',
  elf: 'is an ELF program, library or object',
  script: 'begins with #!',
  'execute-permission': 'may be executed',
  'temporary-place': 'lies in a folder for temporary files',
  'memory-place': 'lies in a folder that is usually memory',
  'world-writable-folder': 'lies below a folder that anybody may write to',
  'not-in-image': 'no file of the image has this content',
  'image-not-searched': 'not every file of the image could be compared',
  'program-or-library': 'a program or library',
  accounts: 'accounts, passwords and who may become root',
  'loader-path': 'where the loader looks for libraries',
  login: 'how people log in',
  'name-resolution': 'where names lead',
  'trusted-certificates': 'which certificates are trusted',
  'package-sources': 'where packages come from',
  'mode-or-owner': 'mode or owner differ, the content does not',
  cron: 'run by cron',
  unit: 'run by systemd or init',
  'ssh-key': 'lets somebody log in by key',
  preload: 'loaded into every program',
  'shell-start': 'read by shells when they start',
  'interpreter-start': 'run by an interpreter when it starts',
  'log-or-history': 'a log, or a history of commands',
  'link-to-nothing': 'leads to /dev/null',
  emptied: 'had content in the image and is empty now',
  'mtime-kept': 'with the image’s modification time',
  'by-whiteout': 'it was deleted by itself',
  'with-directory': 'a directory above it was deleted',
  'directory-replaced': 'a directory above it was deleted and made again, or another one was moved there',
  'replaced-by-other-type': 'something else than a directory is where a directory above it was',
  'unprintable-name': 'its name has control or invisible characters',
  'blank-name': 'its name begins or ends with blanks, or is nothing but dots and blanks',
  'dot-name': 'a dot file where programs keep none',
  'block-device': 'gives access to a disk',
  'memory-device': 'gives access to memory, kernel or ports',
  'other-device': 'a device',
  'usual-device': 'a device that every container has',
  'on-node': 'lies on the node itself, which the container has mounted',
  'static-pod': 'a pod that kubelet starts by itself',
  'node-runtime': 'run or read by kubelet or the container runtime of the node',
  'mounted-noexec': 'cannot be executed where it is mounted; it can be read by what executes it',
  'mounted-nosuid': 'the container gets no rights by it where it is mounted; the node may',
  'mounted-nodev': 'cannot be opened where it is mounted; the node may',
  'mounted-read-only': 'this container cannot have written it',
  'older-than-pod': 'it was like this before the pod was made',
  'lower-layers-unknown': 'the image’s layers could not be read, so it may be theirs',
} as const;
export type FindingReason = keyof typeof FINDING_REASONS;

const decimal = z.string().regex(/^-?\d+$/);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const reasons = Object.keys(FINDING_REASONS) as [FindingReason, ...FindingReason[]];

const lowerSchema = z.strictObject({
  layer: z.number().int().nonnegative(),
  sizeBytes: z.number().nonnegative(),
  mode: z.string().regex(/^[0-7]+$/),
  uid: z.number(),
  gid: z.number(),
  mtimeNs: decimal,
  ctimeNs: decimal,
  sha256: sha256.optional(),
});

export const findingSchema = z.strictObject({
  kind: z.enum(FINDING_KINDS),
  severity: z.enum(SEVERITIES),
  reasons: z.array(z.enum(reasons)).min(1),
  /** In the container, below its root; the inventory's `path` or `overlayPath`. */
  path: z.string(),
  pathBase64: z.base64().optional(),
  type: z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'character-device', 'block-device']),
  /** As in the inventory; absent where the lower layers could not be read. */
  change: z.enum(CHANGES).optional(),
  /** Of the file that the finding is about; for `image-file-deleted` that of the image. */
  inode: decimal,
  mode: z.string().regex(/^[0-7]+$/),
  /** As the container sees them. */
  uid: z.number().int(),
  gid: z.number().int(),
  sizeBytes: z.number().nonnegative(),
  mtimeNs: decimal,
  ctimeNs: decimal,
  /** Zero where the file system keeps none. */
  birthNs: decimal,
  sha256: sha256.optional(),
  /** Target of a symlink. */
  linkPath: z.string().optional(),
  linkPathBase64: z.base64().optional(),
  deviceMajor: z.number().int().optional(),
  deviceMinor: z.number().int().optional(),
  /** `security.capability` as it is stored, xattr(7); with a root id for a user namespace it is of revision 3. */
  capability: z.base64().optional(),
  /** What the image has at this path. */
  lower: lowerSchema.optional(),
  /** The member of `rootfs-originals.tar.zst` that is the image's file. */
  original: z.string().optional(),
  originalBase64: z.base64().optional(),
  /** The number of the mount that it is on, where that is not the root: a line of `volumes.jsonl.zst`. */
  volume: z.number().int().positive().optional(),
  /** Where the node has it, below its root, when the mount is of the node's own. */
  nodePath: z.string().optional(),
  nodePathBase64: z.base64().optional(),
});
export type Finding = z.infer<typeof findingSchema>;

/** Objects of any artifact that hold findings end like this. */
export const FINDINGS_SUFFIX = '.findings.jsonl.zst';
