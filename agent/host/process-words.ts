import { latin1, worded, wordsOf } from './decode.ts';
import type { ProcessRecord } from './process.ts';
import * as small from './process-small.ts';
import type { ProcessStat } from './process-stat.ts';
import type { FileReading } from './procfs.ts';

/** The raw file has all of it. 128 KiB is the longest single argument (MAX_ARG_STRLEN). */
const COMMAND_LINE_MAX = 128 * 1024;
/** As much; Kubernetes gives some 100 bytes for each service of the namespace. */
const ENVIRONMENT_MAX = 128 * 1024;

export function bytesOf(reading: FileReading | undefined): Buffer | undefined {
  return reading?.kind === 'read' ? reading.bytes : undefined;
}

export function commOf(reading: FileReading | undefined, stat: ProcessStat | undefined): Buffer {
  if (reading?.kind === 'read') return small.parseWords(reading.bytes);
  return stat?.comm ?? Buffer.alloc(0);
}

export function commandLineOf(
  bytes: Buffer | undefined,
): Pick<ProcessRecord, 'commandLine' | 'commandLineBase64' | 'commandLineTruncated'> {
  const kept = bytes?.subarray(0, COMMAND_LINE_MAX) ?? Buffer.alloc(0);
  const { words, wordsBase64 } = worded('words', kept);
  return {
    commandLine:
      wordsBase64 === undefined ? splitWords(words) : small.splitNul(kept).map((part) => part.toString('utf8')),
    ...(wordsBase64 === undefined ? {} : { commandLineBase64: wordsBase64 }),
    ...(bytes && kept.length < bytes.length ? { commandLineTruncated: true } : {}),
  };
}

function splitWords(text: string): string[] {
  if (text === '') return [];
  return (text.endsWith('\0') ? text.slice(0, -1) : text).split('\0');
}

export function waitChannelOf(text: string | undefined): string | undefined {
  return text === '0' || text === '' ? undefined : text;
}

export type Environment = Pick<
  ProcessRecord,
  'environmentNames' | 'environment' | 'environmentBase64' | 'environmentTruncated'
>;

export const NO_ENVIRONMENT: Environment = { environmentNames: [], environment: [] };

export function environmentOf(bytes: Buffer): Environment {
  const kept = bytes.subarray(0, ENVIRONMENT_MAX);
  const { words: _, wordsBase64 } = worded('words', kept);
  const entries = small.splitNul(kept).filter((entry) => entry.length > 0);
  return {
    environmentNames: entries.map((entry) => wordsOf(latin1(entry).split('=', 1)[0] ?? '')),
    environment: entries.map((entry) => entry.toString('utf8')),
    ...(wordsBase64 === undefined ? {} : { environmentBase64: wordsBase64 }),
    ...(kept.length < bytes.length ? { environmentTruncated: true } : {}),
  };
}
