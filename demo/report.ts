/** A screen for a person: what was found, and how to open each artifact with tools they already have. */
import path from 'node:path';
import { type Finding, SEVERITIES } from '../evidence/file-finding.ts';
import type { ArtifactRecord } from '../evidence/manifest.ts';
import type { Evidence } from './findings.ts';

/** What the demo planted, so that the report can look for it as an analyst with a hunch would. */
export interface Hunch {
  readonly secret: string;
}

type Line = Record<string, unknown>;

const list = (value: unknown): Line[] => (Array.isArray(value) ? (value as Line[]) : []);
const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value ?? ''));

async function programs(evidence: Evidence): Promise<string> {
  const lines = await evidence.lines('processes.tar.zst', 'processes.jsonl');
  const gone = lines.find((line) => list(line.anomalies).some((one) => one.kind === 'deletedExecutable'));
  const recovered = await evidence.lines('processes.tar.zst', 'recovered.jsonl');
  const count = `${lines.length} ${lines.length === 1 ? 'process' : 'processes'}`;
  if (gone === undefined) return `${count}, no deleted program`;
  const words = Array.isArray(gone.commandLine) ? gone.commandLine.join(' ') : text(gone.comm);
  const digest = text(recovered.find((one) => one.sha256 !== undefined)?.sha256).slice(0, 16);
  return `${count}; pid ${text(gone.pid)} calls itself "${words}", runs a deleted file: recovered, sha256 ${digest}...`;
}

async function connections(evidence: Evidence): Promise<string> {
  const sockets = await evidence.lines('network.tar.zst', 'sockets.jsonl');
  // The other end of a connection on the same machine has no owner in the target.
  const open = sockets.filter((line) => line.state === 'established' && list(line.owners).length > 0);
  const peers = open.map((line) => {
    const owner = list(line.owners)[0];
    return `${text(line.remoteAddress)}:${text(line.remotePort)} by pid ${text(owner?.pid)}`;
  });
  return peers.length === 0 ? `${sockets.length} sockets, none connected` : `connected to ${peers.join(', ')}`;
}

async function memory(evidence: Evidence, hunch: Hunch): Promise<string> {
  const cores = await evidence.grep('memory.tar.zst', hunch.secret);
  const { freeze } = evidence.manifest;
  const where = cores.length === 0 ? 'the planted secret is NOT in it' : `the planted secret is in ${cores.join(', ')}`;
  const how = freeze.consistency === 'frozen' ? `stopped for ${freeze.pauseMs.toFixed(0)} ms` : 'read as it ran';
  return `${where}; ${how}`;
}

async function files(evidence: Evidence): Promise<string> {
  const lines = await evidence.objectLines('rootfs.inventory.jsonl.zst');
  const of = (change: string) =>
    lines
      .filter((line) => line.change === change && line.type === 'file')
      .map((line) => `/${text(line.overlayPath ?? line.path)}`)
      .filter((name) => !/^\/etc\/(hosts|hostname|resolv.conf)$/.test(name));
  return `changed ${of('modified').join(' ')}; deleted ${of('deleted').join(' ')}; added ${of('added').join(' ')}`;
}

/** What the node wrote while the container lived. */
function nodeLogs({ facts }: ArtifactRecord): string {
  const { records = {} } = (facts.nodeLogs ?? {}) as { records?: Record<string, number> };
  const had = Object.entries(records).filter(([, count]) => count > 0);
  const words = had.map(([name, count]) => `${count} records of ${name.replace('.jsonl', '')}`);
  return `of the node: ${words.length === 0 ? 'nothing' : words.join(', ')}`;
}

/** Files that are told of; the command shows the rest. */
const SHOWN_FILES = 4;

/** The files with the weightiest findings, a line each. */
function conspicuous(found: readonly Finding[]): string[] {
  if (found.length === 0) return ['none'];
  const counts = SEVERITIES.map((severity) => `${found.filter((one) => one.severity === severity).length} ${severity}`);
  const high = Map.groupBy(
    found.filter(({ severity }) => severity === 'high'),
    ({ path: file }) => file,
  );
  const files = [...high].sort(([, a], [, b]) => b.length - a.length).slice(0, SHOWN_FILES);
  const rows = files.map(([file, said]) => `/${file}: ${said.map(({ kind }) => kind).join(', ')}`);
  return [`${found.length}: ${counts.join(', ')}; look here first`, ...rows];
}

/** The reader's own tools, on the unpacked archive. */
const HOW: Readonly<Record<string, string>> = {
  processes: 'jq . processes.jsonl',
  network: 'jq . sockets.jsonl',
  node: 'jq . kernel.jsonl',
  memory: 'gdb -c PID/core',
  checkpoint: 'checkpointctl show checkpoint.tar',
  volumes: 'zstd -dc volumes.jsonl.zst | jq .',
  rootfs: 'zstd -dc rootfs.inventory.jsonl.zst | jq .',
  logs: 'less 0.log; jq -r .message kmsg.jsonl',
  spec: 'jq . oci-spec.json',
  image: 'exhibit image . image.tar',
};

async function found(artifact: ArtifactRecord, evidence: Evidence, hunch: Hunch): Promise<string> {
  if (artifact.objects.length === 0) return `${artifact.status}: ${artifact.reason ?? 'no reason given'}`;
  switch (artifact.name) {
    case 'processes':
      return programs(evidence);
    case 'network':
      return connections(evidence);
    case 'node':
      return 'settings of the kernel, its modules, eBPF programs and packet filters';
    case 'memory':
      return memory(evidence, hunch);
    case 'volumes':
      return `${text(artifact.facts.mounts)} mounts, ${text(artifact.facts.volumes)} of them read: ${text(artifact.facts.entries)} files and folders`;
    case 'rootfs':
      return files(evidence);
    case 'checkpoint':
      return 'process tree, sockets and memory as CRIU sees them';
    case 'logs':
      return artifact.facts.files === undefined
        ? 'none: only containers have a log'
        : `${text(artifact.facts.files)} file(s) of the container's log; ${nodeLogs(artifact)}`;
    case 'spec':
      return 'OCI spec, CRI status, image configuration';
    case 'image':
      return 'what the writable layer lies on';
    default:
      return artifact.name satisfies never;
  }
}

export async function report(folder: string, evidence: Evidence, hunch: Hunch): Promise<string> {
  const lines = [
    `Found in ${path.resolve(folder)}`,
    'Each line ends with what shows more, there; unpack an archive with: zstd -dc NAME.tar.zst | tar -x',
  ];
  const [count, ...files] = conspicuous(await evidence.findings());
  lines.push(`  ${'findings'.padEnd(11)}${count}   $ exhibit findings .`);
  lines.push(...files.map((file) => `  ${''.padEnd(13)}${file}`));
  for (const artifact of evidence.manifest.artifacts) {
    const how = artifact.objects.length === 0 ? undefined : HOW[artifact.name];
    const words = await found(artifact, evidence, hunch);
    lines.push(`  ${artifact.name.padEnd(11)}${words}${how === undefined ? '' : `   $ ${how}`}`);
  }
  lines.push(
    `  ${'timeline'.padEnd(11)}all of it in one order of time   $ exhibit timeline . --format body | mactime -b - -d -y`,
  );
  lines.push(
    `  ${'seal'.padEnd(11)}every digest, signed   $ jq -r .payload manifest.dsse.json | base64 -d | jq .subject; sha256sum *`,
  );
  lines.push(
    `  ${'custody'.padEnd(11)}who asked, what was done, when; a page to print lies beside the bundle   $ jq -r '"\\(.at) \\(.what)"' custody.jsonl`,
  );
  lines.push(`  ${'gaps'.padEnd(11)}${gaps(evidence)}   $ jq '.artifacts[].gaps' manifest.json`);
  return lines.join('\n');
}

/** A bundle says what it does not hold. */
function gaps({ manifest }: Evidence): string {
  const count = manifest.artifacts.reduce((total, artifact) => total + artifact.gapCount, 0);
  return count === 0
    ? 'none: nothing that was asked for is missing'
    : `${count} things could not be taken, each with its reason`;
}
