/** What an analyst finds in the demo's bundle, read back from the bundle alone, as a stranger would months later. */
import { openBundle } from '../evidence/bundle.ts';
import { FINDINGS_SUFFIX, type Finding } from '../evidence/file-finding.ts';
import { readFindings } from '../evidence/finding-lines.ts';
import { decodeFrames } from '../evidence/frame-decoder.ts';
import { MANIFEST_OBJECT } from '../evidence/layout.ts';
import type { Manifest } from '../evidence/manifest.ts';
import { readTar } from '../evidence/tar-reader.ts';

export interface Evidence {
  readonly manifest: Manifest;
  /** The lines of a JSON-lines member of an archive. */
  lines(object: string, member: string): Promise<Record<string, unknown>[]>;
  /** The lines of a JSON-lines object. */
  objectLines(object: string): Promise<Record<string, unknown>[]>;
  /** What is conspicuous about files, of every artifact that has files. */
  findings(): Promise<Finding[]>;
  /** Members of an archive in which `needle` occurs. */
  grep(object: string, needle: string): Promise<string[]>;
}

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(Uint8Array.from(chunk));
  return Buffer.concat(all);
}

function parseLines(bytes: Buffer): Record<string, unknown>[] {
  return bytes
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** Reads a bundle that `verify` has found intact. */
export async function openEvidence(folder: string): Promise<Evidence> {
  await using reader = await openBundle(folder);
  const manifest = JSON.parse((await bytesOf(reader.read(MANIFEST_OBJECT))).toString()) as Manifest;
  const open = async () => openBundle(folder);
  return {
    manifest,
    lines: async (object, member) => {
      await using bundle = await open();
      for await (const entry of readTar(decodeFrames(bundle.read(object)))) {
        if (entry.path === member) return parseLines(await bytesOf(entry.body));
      }
      return [];
    },
    objectLines: async (object) => {
      await using bundle = await open();
      return parseLines(await bytesOf(decodeFrames(bundle.read(object))));
    },
    findings: async () => {
      await using bundle = await open();
      const found: Finding[] = [];
      for (const { name } of manifest.objects) {
        if (!name.endsWith(FINDINGS_SUFFIX)) continue;
        for await (const one of readFindings(decodeFrames(bundle.read(name)), name)) found.push(one);
      }
      return found;
    },
    grep: async (object, needle) => {
      await using bundle = await open();
      const found: string[] = [];
      for await (const entry of readTar(decodeFrames(bundle.read(object)))) {
        if (await contains(entry.body, Buffer.from(needle))) found.push(entry.path);
      }
      return found;
    },
  };
}

/** Also where the needle lies across two chunks. */
async function contains(chunks: AsyncIterable<Uint8Array>, needle: Buffer): Promise<boolean> {
  let tail = Buffer.alloc(0);
  let found = false;
  for await (const chunk of chunks) {
    if (found) continue;
    const window = Buffer.concat([tail, chunk]);
    found = window.includes(needle);
    tail = Buffer.from(window.subarray(Math.max(0, window.length - needle.length + 1)));
  }
  return found;
}
