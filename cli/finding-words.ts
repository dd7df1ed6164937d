import type { Finding } from '../evidence/findings.ts';
import { escapeText } from './print.ts';

/** `error object-digest: memory.tar.zst ... (artifact memory)` */
export function describeFinding(finding: Finding): string {
  const artifact = finding.artifact === undefined ? '' : ` (artifact ${finding.artifact})`;
  return `${finding.severity} ${finding.code}: ${finding.message}${artifact}`;
}

/** A heading and indented lines below it, escaped; nothing without lines. */
export function section(heading: string, lines: readonly string[]): string {
  if (lines.length === 0) return '';
  return `\n${heading}\n${lines.map((line) => `  ${escapeText(line)}\n`).join('')}`;
}
