import type { FindingReason } from '../../evidence/file-finding.ts';
import { isUnusualDotFile } from './finding-places.ts';
import type { Judgement } from './finding-subject.ts';

/** Names that are made not to be seen. Pure. */

const SPACE = 0x20;
const DOT = 0x2e;
const DELETE = 0x7f;
const SLASH = 0x2f;

/** `path` as in a Subject, `text` the same with one character a byte. */
export function judgeName(path: Buffer, text: string): Judgement | undefined {
  const at = path.lastIndexOf(SLASH) + 1;
  const reason = plainReason(path, at) ?? (path[at] === DOT ? dotReason(text, at) : undefined);
  if (reason === undefined) return undefined;
  return { kind: 'hidden-name', severity: reason === 'dot-name' ? 'medium' : 'high', reasons: [reason] };
}

/** Names of plain ASCII, which nearly all are, are looked at byte by byte. */
function plainReason(path: Buffer, from: number): FindingReason | undefined {
  let isBlank = from < path.length;
  let isAscii = true;
  for (let at = from; at < path.length; at += 1) {
    const byte = path[at] ?? 0;
    if (byte < SPACE || byte === DELETE) return 'unprintable-name';
    if (byte !== SPACE && byte !== DOT) isBlank = false;
    if (byte > DELETE) isAscii = false;
  }
  if (isBlank || path[from] === SPACE || path.at(-1) === SPACE) return 'blank-name';
  if (isAscii) return undefined;
  const name = path.toString('utf8', from);
  if (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(name)) return 'unprintable-name';
  return /^[\p{Zs}.]|\p{Zs}$/u.test(name) && name.trim() !== name ? 'blank-name' : undefined;
}

function dotReason(text: string, at: number): FindingReason | undefined {
  return isUnusualDotFile(text.slice(0, Math.max(0, at - 1)), text.slice(at)) ? 'dot-name' : undefined;
}
