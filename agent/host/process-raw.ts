import { latin1, worded } from './decode.ts';
import type { ProcessReading } from './process-read.ts';

/**
 * Files kept as they are, below `proc/<pid>/`. What has a hundred bytes at most is in the analysed line's `raw`, as exact: a
 * member of an archive takes a kilobyte and more work than reading it.
 */
const KEPT: ReadonlySet<string> = new Set([
  ...[
    'status',
    'stat',
    'cmdline',
    'environ',
    'maps',
    'limits',
    'mountinfo',
    'cgroup',
    'stack',
    'sched',
    'auxv',
    'timers',
  ],
]);

export interface RawFile {
  /** Below the archive's root. */
  readonly path: string;
  readonly name: string;
  readonly bytes: Buffer;
}

/** In the order in which they were read. Empty files are left out where empty says nothing: `timers`, `stack`. */
export function* rawFiles(reading: ProcessReading): Generator<RawFile> {
  for (const [name, file] of Object.entries(reading.files)) {
    if (file.kind !== 'read' || !KEPT.has(name)) continue;
    if (file.bytes.length === 0 && (name === 'timers' || name === 'stack')) continue;
    yield { path: `proc/${reading.pid}/${name}`, name, bytes: file.bytes };
  }
  for (const { tid, files } of reading.threads) {
    for (const [name, file] of Object.entries(files)) {
      if (file.kind === 'read' && (file.bytes.length > 0 || name !== 'stack'))
        yield { path: `proc/${reading.pid}/task/${tid}/${name}`, name: `task/${name}`, bytes: file.bytes };
    }
  }
}

/** The short files, verbatim: `raw.oom_score`, with `oom_scoreBase64` beside when it is not UTF-8. */
export function rawWords(reading: ProcessReading): Record<string, string> {
  const words: Record<string, string> = {};
  for (const [name, file] of Object.entries(reading.files)) {
    if (file.kind === 'read' && file.bytes.length > 0 && !KEPT.has(name))
      Object.assign(words, worded(name, file.bytes));
  }
  return words;
}

export interface ReadingGap {
  readonly what: string;
  readonly errno?: string;
  readonly why: string;
}

/** Files that are short by nature and may be missing for a zombie or a kernel thread, which has no memory. */
const ABSENT = ['ENOENT', 'ESRCH', 'EINVAL'];

/**
 * What is missing in a reading and why, as few gaps as say it all. A file that this kernel does not have is no gap, nor is
 * what a zombie or a kernel thread cannot have.
 */
export function readingGaps(reading: ProcessReading): ReadingGap[] {
  const { pid } = reading;
  const gaps: ReadingGap[] = [];
  const missing = new Map<string, string[]>();
  const miss = (name: string, errno: string): void => {
    const names = missing.get(errno) ?? [];
    if (names.length === 0) missing.set(errno, names);
    names.push(name);
  };
  const absent = (errno: string): boolean =>
    !reading.vanished && (errno === 'ENOENT' || (ABSENT.includes(errno) && isBare(reading)));
  // EINVAL is how attr/current says that no security module keeps a label.
  const noLabel = (name: string, errno: string): boolean => name === 'attr/current' && errno === 'EINVAL';
  for (const [name, file] of [...Object.entries(reading.files), ...Object.entries(reading.links)]) {
    if (file.kind === 'failed' && !noLabel(name, file.errno) && !absent(file.errno)) miss(name, file.errno);
    if (file.kind === 'read' && file.truncated) {
      gaps.push({ what: `pid ${pid} ${name}`, why: `cut after ${file.bytes.length} bytes` });
    }
  }
  for (const [name, errno] of [
    ['fd', reading.descriptorsErrno],
    ['task', reading.threadsErrno],
  ] as const) {
    if (errno !== undefined && !absent(errno)) miss(name, errno);
  }
  const { executable } = reading;
  if (executable && 'errno' in executable && !absent(executable.errno)) miss('attributes of exe', executable.errno);
  for (const { fd, errno } of reading.descriptors) if (errno !== undefined) miss(`fd/${fd}`, errno);
  for (const [errno, names] of missing) {
    gaps.push({ what: `pid ${pid} ${listed(names)}`, errno, why: whyMissing(reading, errno) });
  }
  if (reading.vanished && missing.size === 0) {
    gaps.push({ what: `pid ${pid}`, errno: 'ESRCH', why: 'the process ended just after it was read' });
  }
  if (reading.descriptorsTruncated) {
    gaps.push({ what: `pid ${pid} fd`, why: `only the first ${reading.descriptors.length} descriptors were read` });
  }
  if (reading.threadsTruncated) {
    gaps.push({ what: `pid ${pid} task`, why: `only the first ${reading.threads.length} threads were read` });
  }
  if (reading.careful) {
    const why = 'reading the process blocked, so what can block was left out';
    gaps.push({ what: `pid ${pid} cmdline, environ, maps, types of open files`, why });
  }
  return gaps;
}

function whyMissing(reading: ProcessReading, errno: string): string {
  if (reading.vanished) return 'the process ended before or while it was read';
  return errno === 'EACCES' || errno === 'EPERM' ? 'the kernel refused it' : 'reading it failed';
}

/** Zombies and kernel threads have neither memory nor files. */
function isBare(reading: ProcessReading): boolean {
  const status = reading.files.status;
  return status?.kind === 'read' && /^(State:\tZ|Kthread:\t1)/m.test(latin1(status.bytes));
}

function listed(names: readonly string[]): string {
  return names.length <= 12 ? names.join(', ') : `${names.slice(0, 12).join(', ')} and ${names.length - 12} more`;
}
