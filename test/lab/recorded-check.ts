/** What may not get into a recording of a release. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { labRoot } from './cache.mjs';

/** Of one fixture, of all of a release. */
const MAX_BYTES = { file: 100_000, all: 500_000 };

/** What is in it: messages and archives as well. */
function readable(file: string): Buffer {
  const bytes = readFileSync(file);
  if (file.endsWith('.zst')) return zstdDecompressSync(bytes);
  const messages = file.endsWith('-calls.json') ? bytes.toString().matchAll(/"bytes": "([^"]*)"/g) : [];
  return Buffer.concat([bytes, ...Array.from(messages, ([, base64 = '']) => Buffer.from(base64, 'base64'))]);
}

/** Nothing of this machine, and nothing large, gets into the repository. */
export function checkRecording(out: string): void {
  const cgroups = readFileSync('/proc/self/cgroup', 'latin1').matchAll(/:(\/.+)$/gm);
  const words = [hostname(), process.cwd(), labRoot(), ...[...cgroups].map(([, path = '']) => path)].filter(
    (word) => word.length > 3,
  );
  let total = 0;
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const { size } = statSync(file);
    total += size;
    const text = readable(file).toString('latin1');
    const found = words.filter((word) => text.includes(word));
    if (found.length > 0) refuse(`${file} holds ${found.join(', ')}`);
    if (size > MAX_BYTES.file) refuse(`${file} has ${size} bytes`);
  }
  if (total > MAX_BYTES.all) refuse(`${out} is too large`);
  console.log(`${out}: ${total} bytes of at most ${MAX_BYTES.all}`);
}

function refuse(why: string): void {
  console.error(why);
  process.exitCode = 1;
}
