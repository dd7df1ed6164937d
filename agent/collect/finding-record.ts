import type { Finding, FindingReason, Severity } from '../../evidence/file-finding.ts';
import { describePath } from '../../evidence/member-path.ts';
import { deviceNumbers } from '../host/directory.ts';
import type { Judgement, Subject } from './finding-subject.ts';

/** What only the caller knows of a finding's file. */
export interface FindingExtras {
  readonly inode: bigint;
  readonly lower?: Finding['lower'] | undefined;
  /** Path of the member that keeps the image's file. */
  readonly original?: Buffer | undefined;
  /** Of a mount. */
  readonly volume?: number;
  readonly nodePath?: Buffer | undefined;
}

/** Keys are sorted, as they are written; what is undefined is left out then. */
export type FindingLine = { readonly [Key in keyof Finding]: Finding[Key] | undefined };

export function findingLine(
  { kind, severity, reasons }: Judgement,
  subject: Subject,
  { inode, lower, original, volume, nodePath }: FindingExtras,
): FindingLine {
  const isDevice = subject.kind === 'character-device' || subject.kind === 'block-device';
  const device = isDevice ? deviceNumbers(subject.rdev) : undefined;
  const link = subject.linkPath === undefined ? undefined : describePath(subject.linkPath);
  const real = describePath(subject.path);
  const kept = original === undefined ? undefined : describePath(original);
  const onNode = nodePath === undefined ? undefined : describePath(nodePath);
  return {
    birthNs: String(subject.birthNs),
    capability: subject.capability?.toString('base64'),
    change: subject.change,
    ctimeNs: String(subject.ctimeNs),
    deviceMajor: device?.major,
    deviceMinor: device?.minor,
    gid: Number(subject.gid),
    inode: String(inode),
    kind,
    linkPath: link?.path,
    linkPathBase64: link?.pathBase64,
    lower,
    mode: subject.mode.toString(8).padStart(4, '0'),
    mtimeNs: String(subject.mtimeNs),
    nodePath: onNode?.path,
    nodePathBase64: onNode?.pathBase64,
    original: kept?.path,
    originalBase64: kept?.pathBase64,
    path: real.path,
    pathBase64: real.pathBase64,
    reasons: [...reasons],
    severity,
    sha256: subject.sha256,
    sizeBytes: Number(subject.sizeBytes),
    type: subject.kind,
    uid: Number(subject.uid),
    volume,
  };
}

/** The same finding when more is known of it. */
export function withReason(line: FindingLine, reason: FindingReason, severity: Severity | undefined): FindingLine {
  return {
    ...line,
    reasons: [...(line.reasons ?? []), reason],
    severity: severity ?? line.severity,
  };
}
