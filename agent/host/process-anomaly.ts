import type { Anomaly, ProcessRecord } from './process.ts';

/** Variables that make the dynamic loader run other code (ld.so(8)), and those of interpreters. */
const LOADER_VARIABLES = [
  'LD_PRELOAD',
  'LD_AUDIT',
  'LD_LIBRARY_PATH',
  'PYTHONSTARTUP',
  'PERL5OPT',
  'BASH_ENV',
  'NODE_OPTIONS',
];
/** Places that every user can write to. */
const WRITABLE_PLACES = /^\/(tmp|var\/tmp|dev\/shm|run\/shm|dev)\//;

/**
 * Facts that make an analyst look twice, each with what it was found in. `reference` are the namespaces of the first process of its
 * container:
 * what differs from it in namespaces has moved by itself or was put there from outside.
 */
export function findAnomalies(record: ProcessRecord, reference: ProcessRecord['namespaces']): Anomaly[] {
  return [
    ...executableAnomalies(record),
    ...memoryAnomalies(record),
    ...identityAnomalies(record),
    ...descriptorAnomalies(record),
    ...namespaceAnomalies(record, reference),
  ];
}

function* executableAnomalies({ executable }: ProcessRecord): Generator<Anomaly> {
  if (executable === undefined) return;
  const { path } = executable;
  if (executable.memfd) yield { kind: 'memfdExecutable', path };
  else if (executable.deleted) yield { kind: 'deletedExecutable', path };
  if (WRITABLE_PLACES.test(path)) yield { kind: 'executableInWritablePlace', path };
  if (executable.mode !== undefined && (executable.mode & 0o6000) !== 0) {
    yield { kind: 'setidExecutable', path, mode: executable.mode };
  }
}

function* memoryAnomalies({ memory }: ProcessRecord): Generator<Anomaly> {
  if (memory.anonymousExecutableTotal > 0) {
    const writable = memory.anonymousExecutable.filter((region) => region.permissions.includes('w')).length;
    yield { kind: 'anonymousExecutableRegion', regions: memory.anonymousExecutableTotal, writable };
  }
  const programs = memory.anonymousExecutable.filter((region) => region.elf);
  if (programs.length > 0) yield { kind: 'programInAnonymousMemory', starts: programs.map(({ start }) => start) };
  if (memory.writableExecutableTotal > 0) {
    yield { kind: 'writableExecutableRegion', regions: memory.writableExecutableTotal };
  }
  for (const file of memory.files) {
    if (!file.executable || !file.deleted) continue;
    yield {
      kind: file.memfd ? 'memfdExecutableMapping' : 'deletedExecutableMapping',
      path: file.path,
      range: file.range,
    };
  }
}

function* identityAnomalies(record: ProcessRecord): Generator<Anomaly> {
  if (record.tracerPid !== undefined) yield { kind: 'ptraced', tracerPid: record.tracerPid };
  const name = record.commandLine[0] ?? record.comm;
  if (!record.kernelThread && record.executable !== undefined && /^\[.*\]$/.test(name)) {
    yield { kind: 'kernelThreadLookalike', name };
  }
  const { uids } = record.status;
  if (uids && (uids.real !== uids.effective || uids.effective !== uids.saved)) yield { kind: 'mixedUserIds', uids };
  const differing = record.threads.filter(({ differs }) => differs !== undefined);
  if (differing.length > 0) yield { kind: 'threadsDiffer', threads: differing.slice(0, 64).map(({ tid }) => tid) };
  if (record.auxiliary.secure === '0x1') yield { kind: 'secureExecution' };
  const loader = record.environmentNames.filter((variable) => LOADER_VARIABLES.includes(variable));
  if (loader.length > 0) yield { kind: 'loaderEnvironment', names: loader };
}

/** A shell whose input, output and errors are one socket is a remote one. */
function* descriptorAnomalies({ descriptors }: ProcessRecord): Generator<Anomaly> {
  const standard = descriptors.filter(({ fd }) => fd <= 2);
  const [first] = standard;
  if (standard.length === 3 && standard.every(({ type, inode }) => type === 'socket' && inode === first?.inode)) {
    yield { kind: 'standardStreamsOnSocket', inode: first?.inode };
  }
  const deleted = descriptors.filter(({ deleted, type }) => deleted && type === 'file');
  if (deleted.length > 0) yield { kind: 'deletedOpenFiles', descriptors: deleted.slice(0, 64).map(({ fd }) => fd) };
  const memfds = descriptors.filter(({ type }) => type === 'memfd');
  if (memfds.length > 0) yield { kind: 'memfds', descriptors: memfds.slice(0, 64).map(({ fd }) => fd) };
}

function* namespaceAnomalies(
  { namespaces }: ProcessRecord,
  reference: ProcessRecord['namespaces'],
): Generator<Anomaly> {
  const foreign = Object.entries(namespaces).filter(([type, inode]) => {
    const expected = reference[type];
    return expected !== undefined && expected !== inode;
  });
  if (foreign.length > 0) yield { kind: 'otherNamespaces', types: foreign.map(([type]) => type) };
}
