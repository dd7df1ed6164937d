import { BODY_LETTERS, type BodyKind, bodyName, permissions } from '../evidence/bodyfile.ts';
import { clampMoment, decimalSeconds } from '../evidence/timeline/moment.ts';
import { MEANINGS, type TimelineEntry } from '../evidence/timeline/timeline.ts';
import { isTold, isWithin, OUT_OF_RANGE, type TimelineFormat, type TimeRange } from './timeline-format.ts';

/**
 * The Sleuth Kit's body file, version 3: `MD5|name|inode|mode_as_string|UID|GID|size|atime|mtime|ctime|crtime`, a line an entry with
 * up to four times. Files have their path as name and their artifact behind it; anything else is `[artifact] what happened`,
 * with its time in the column that MEANINGS gives it. A time that is not there is 0, as TSK has it.
 */
export function bodyFormat(range: TimeRange): TimelineFormat {
  return {
    header: '',
    head: () => '',
    tail: '\n',
    *lines(entry) {
      const wanted = entry.times.filter(({ ns }) => isWithin(range, ns));
      const first = wanted[0];
      if (first === undefined) return;
      let earliestNs = first.ns;
      for (const { ns } of wanted) if (ns < earliestNs) earliestNs = ns;
      const columns = { a: '0', m: '0', c: '0', b: '0' };
      for (const time of wanted) columns[MEANINGS[time.meaning].column] = decimalSeconds(clampMoment(time.ns));
      const note = wanted.every((time) => isTold(time.ns)) ? '' : OUT_OF_RANGE;
      const { inode = '0', uid = 0, gid = 0, size = 0 } = entry.fields;
      const numbers = [/^\d+$/.test(inode) ? inode : '0', modeOf(entry), integer(uid), integer(gid), integer(size)];
      const times = [columns.a, columns.m, columns.c, columns.b];
      yield { ns: earliestNs, text: ['0', `${nameOf(entry)}${note}`, ...numbers, ...times].join('|') };
    },
  };
}

function nameOf({ kind, artifact, message, fields }: TimelineEntry): string {
  if (kind !== 'file' || fields.path === undefined) return `[${artifact}] ${bodyName(Buffer.from(message))}`;
  const path = bodyName(pathBytes(fields.path, fields.path_base64));
  const link = fields.link_target === undefined ? '' : ` -> ${bodyName(Buffer.from(fields.link_target))}`;
  const deleted = fields.file_type === 'whiteout' ? ' (deleted)' : '';
  const layer = fields.layer === undefined ? '' : ` (image layer ${fields.layer})`;
  return `${path}${link}${deleted}${layer} [${artifact}]`;
}

/** The exact bytes, below the folder that the shown path has before them. */
function pathBytes(path: string, base64: string | undefined): Buffer {
  if (base64 === undefined) return Buffer.from(path);
  const bytes = Buffer.from(base64, 'base64');
  const shown = bytes.toString('utf8').replace(/^(\.?\/)+|\/+$/g, '');
  const before = path.endsWith(shown) ? path.slice(0, path.length - shown.length) : '/';
  const start = bytes.toString('latin1').search(/[^./]|\.(?!\/)/);
  return Buffer.concat([Buffer.from(before), bytes.subarray(Math.max(0, start))]);
}

const isBodyKind = (type: string): type is BodyKind => Object.hasOwn(BODY_LETTERS, type);

function modeOf({ fields: { file_type, mode = '' } }: TimelineEntry): string {
  const letter = file_type !== undefined && isBodyKind(file_type) ? BODY_LETTERS[file_type] : '-';
  const bits = /^[0-7]{1,6}$/.test(mode) ? Number.parseInt(mode, 8) : 0;
  return `${letter}/${letter}${permissions(bits)}`;
}

/** Digits alone: mactime and plaso read nothing else. */
function integer(value: number): string {
  return Number.isFinite(value) && value > 0 ? BigInt(Math.trunc(value)).toString() : '0';
}
