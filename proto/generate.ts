/**
 * Generates proto/gen from the .proto files: `node proto/generate.ts`. With `--check` it changes nothing and fails when
 * proto/gen is not what the files would give.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';

const PROJECT = path.dirname(import.meta.dirname);
const OUTPUT = path.join(PROJECT, 'proto', 'gen');

const FILES = [
  'exhibit/v1/agent.proto',
  'exhibit/controller/v1/controller.proto',
  'exhibit/controller/v1/link.proto',
  'runtime/v1/api.proto',
  'containerd/containerd.proto',
];

/** load.ts' LOADER_OPTIONS, in the words of the generator's command line. */
const FLAGS = ['--longs=String', '--enums=String', '--defaults', '--arrays', '--objects', '--oneofs'];

function generate(folder: string): void {
  const loader = createRequire(import.meta.url).resolve('@grpc/proto-loader/package.json');
  const program = path.join(path.dirname(loader), 'build', 'bin', 'proto-loader-gen-types.js');
  const fixed = ['--grpcLib=@grpc/grpc-js', '--importFileExtension=.ts', '--includeDirs', 'proto', '--outDir', folder];
  // One run a file: in one run for all, files that share google.protobuf would race for its output.
  for (const file of FILES) {
    execFileSync(process.execPath, [program, ...FLAGS, ...fixed, '--', file], { cwd: PROJECT, stdio: 'pipe' });
  }
}

/** Relative names to contents. */
function contents(folder: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    files.set(path.relative(folder, file), readFileSync(file, 'utf8'));
  }
  return files;
}

/** Names of the files that differ between two folders, or are in one only. */
function difference(one: Map<string, string>, other: Map<string, string>): string[] {
  const names = new Set([...one.keys(), ...other.keys()]);
  return [...names].filter((name) => one.get(name) !== other.get(name)).sort();
}

function check(): void {
  const folder = mkdtempSync(path.join(tmpdir(), 'exhibit-proto-'));
  try {
    generate(folder);
    const stale = difference(contents(folder), contents(OUTPUT));
    if (stale.length === 0) return;
    console.error(
      `proto/gen is stale (${stale.slice(0, 5).join(', ')}): run \`node proto/generate.ts\` and commit the result`,
    );
    process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv.includes('--check')) check();
else {
  rmSync(OUTPUT, { recursive: true, force: true });
  generate(OUTPUT);
}
