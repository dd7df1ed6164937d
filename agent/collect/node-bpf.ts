import { attachName, describeBtf, describeLink, describeMap, describeProgram } from '../host/bpf.ts';
import type { BpfReading } from '../host/bpf-read.ts';
import { reach } from '../host/host.ts';
import type { BpfHolder } from '../host/node-request.ts';
import { parseMountinfo } from '../host/process-small.ts';
import { asHostPath } from '../runtime/runtime.ts';
import { addFile, addLines, asking, type ReaderArchive } from './reader-archive.ts';

export interface BpfScope {
  readonly bootTimeMs: number;
  /** Folders of cgroup2 as the agent reaches them. */
  readonly cgroups: readonly string[];
  /** Of the node's first process: where bpffs is. */
  readonly mountinfo: Uint8Array | undefined;
}

/** As many as a node mounts bpffs; containers may have it too, elsewhere. */
const PIN_FOLDERS_MAX = 16;
/** Holders listed for one object: a map may be in every process of a service. */
const HOLDERS_LISTED_MAX = 64;

/**
 * `bpf.jsonl`: programs, maps, links, BTF and what is attached to the target's control groups, each with who holds it and where
 * it is pinned; `bpf/program-<id>.xlated`: instructions as the verifier left them, 8 bytes each.
 */
export async function addBpf(work: ReaderArchive, scope: BpfScope): Promise<void> {
  const { context } = work;
  const pinFolders = [
    ...new Set(
      parseMountinfo(scope.mountinfo ?? Buffer.alloc(0))
        .filter(({ type, mountPointBase64 }) => type === 'bpf' && mountPointBase64 === undefined)
        .map(({ mountPoint }) => reach(context.host, asHostPath(mountPoint))),
    ),
  ].slice(0, PIN_FOLDERS_MAX);
  const { hostRoot } = context.host;
  const onNode = (path: string) => (path.startsWith(hostRoot) ? path.slice(hostRoot.length) : path);
  const readings: BpfReading[] = [];
  await asking(work, { kind: 'node', ask: { about: 'bpf', cgroups: scope.cgroups, pinFolders } }, 'eBPF', (reply) => {
    if (reply.kind !== 'node' || reply.answer.about !== 'bpf') return;
    const { bpf } = reply.answer;
    if (bpf.kind === 'pin') readings.push({ ...bpf, path: onNode(bpf.path) });
    else if (bpf.kind === 'attached') readings.push({ ...bpf, cgroup: onNode(bpf.cgroup) });
    else readings.push(bpf);
  });
  const holders = await findHolders(work);
  const pins = new Map<string, string[]>();
  for (const reading of readings) {
    if (reading.kind === 'pin') push(pins, `${reading.object} ${reading.id}`, reading.path);
    if (reading.kind === 'failed') fail(work, reading);
    if (reading.kind === 'cut') context.gap({ what: reading.what, why: reading.why });
  }
  for (const reading of readings) {
    if (reading.kind !== 'program' || !Buffer.isBuffer(reading.translated)) continue;
    await addFile(work, memberOf(reading.id), reading.translated);
  }
  await addLines(work, 'bpf', describeAll(work, readings, scope.bootTimeMs, holders, pins));
  const count = (kind: BpfReading['kind']) => readings.filter((reading) => reading.kind === kind).length;
  context.fact('bpf', { programs: count('program'), maps: count('map'), links: count('link') });
}

function memberOf(id: number): string {
  return `bpf/program-${id}.xlated`;
}

function push<Value>(lists: Map<string, Value[]>, key: string, value: Value): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** ENOSYS and EINVAL: a kernel without that part of bpf(2), such as links before Linux 5.8. */
function fail({ context }: ReaderArchive, { what, errno }: { what: string; errno: string }): void {
  if (errno === 'ENOSYS' || errno === 'EINVAL')
    context.note(`This kernel, or this agent, has no ${what} to ask for (${errno}).`);
  else
    context.gap({
      what,
      errno,
      why: errno === 'EPERM' ? 'it takes CAP_SYS_ADMIN, or lockdown forbids it' : 'the kernel did not tell it',
    });
}

async function findHolders(work: ReaderArchive): Promise<Map<string, BpfHolder[]>> {
  const found = new Map<string, BpfHolder[]>();
  await asking(work, { kind: 'node', ask: { about: 'bpfHolders' } }, 'holders of eBPF objects', (reply) => {
    if (reply.kind !== 'node' || reply.answer.about !== 'holders') return;
    if (reply.answer.truncated)
      work.context.gap({ what: 'holders of eBPF objects', why: 'there are too many descriptors' });
    for (const holder of reply.answer.holders) push(found, `${holder.kind} ${holder.id}`, holder);
  });
  return found;
}

function* describeAll(
  { context }: ReaderArchive,
  readings: readonly BpfReading[],
  bootTimeMs: number,
  holders: ReadonlyMap<string, readonly BpfHolder[]>,
  pins: ReadonlyMap<string, readonly string[]>,
): Generator<object> {
  const about = (kind: string, id: number) => ({
    holders: (holders.get(`${kind} ${id}`) ?? []).slice(0, HOLDERS_LISTED_MAX).map(({ pid, fd }) => ({ pid, fd })),
    pinned: pins.get(`${kind} ${id}`) ?? [],
  });
  for (const reading of readings) {
    switch (reading.kind) {
      case 'program':
        yield {
          ...describeProgram(reading.info, reading.mapIds, bootTimeMs),
          ...(Buffer.isBuffer(reading.translated)
            ? { instructionsIn: memberOf(reading.id) }
            : { instructionsWhy: reading.translated.why }),
          ...about('prog', reading.id),
        };
        break;
      case 'map':
        yield { ...describeMap(reading.info), ...about('map', reading.id) };
        break;
      case 'link':
        yield { ...describeLink(reading.info, reading.texts, reading.addresses), ...about('link', reading.id) };
        break;
      case 'btf':
        yield { ...describeBtf(reading.info, reading.name), ...about('btf', reading.id) };
        break;
      case 'attached': {
        const { cgroup, effective, programIds, total } = reading;
        if (total > programIds.length)
          context.gap({ what: `eBPF programs of ${cgroup}`, why: `${total - programIds.length} more than are listed` });
        yield { object: 'attachment', cgroup, attachType: attachName(reading.attachType), effective, programIds };
        break;
      }
      case 'pin':
        if (reading.object === 'other') yield { object: 'pin', path: reading.path };
        break;
      default:
        break;
    }
  }
}
