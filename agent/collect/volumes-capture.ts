import { describePath } from '../../evidence/member-path.ts';
import type { NotStored, VolumeRecord } from '../../evidence/volumes.ts';
import { type Directory, DirectoryPool, holdNode, type Node } from '../host/directory.ts';
import type { IdMaps } from '../host/id-map.ts';
import { bytesOf } from '../host/mount-table.ts';
import { walk } from '../host/walk.ts';
import type { CollectContext } from './collector.ts';
import { chooseForm, HOLES_IN_ALL } from './rootfs-content.ts';
import { readEntry } from './rootfs-entry.ts';
import { MemberWriter, type Stored } from './rootfs-member.ts';
import { join } from './rootfs-names.ts';
import { type Entry, list, type Outputs, reportGap } from './rootfs-store.ts';
import { SizeSurvey, type VolumesBudget } from './volumes-budget.ts';
import type { Volume } from './volumes-find.ts';
import type { ExamineEntry } from './volumes-findings.ts';
import { VolumeGaps } from './volumes-gaps.ts';

/** What of a volume its capture has to know. */
export interface VolumeOrder extends Pick<Volume, 'number' | 'mount'> {
  readonly decision: Pick<Volume['decision'], 'notStored' | 'entries'>;
}

export interface VolumeParts {
  readonly context: Pick<CollectContext, 'gap' | 'progress' | 'read' | 'signal'>;
  readonly volume: VolumeOrder;
  /** An O_PATH descriptor of the copied mount's root. */
  readonly fd: number;
  readonly outputs: Outputs;
  readonly budget: VolumesBudget;
  readonly fileBytes: number;
  /** Bytes of the file system that are in use; undefined when it did not say. */
  readonly usedBytes: number | undefined;
  /** Judges an entry as soon as it is stored, before its content is forgotten. */
  readonly examine: ExamineEntry;
  /** Of the container's user namespace; undefined when it has the node's own ids. */
  readonly ids: IdMaps | undefined;
}

/** Entries between two reports of progress. */
const REPORT_EVERY = 1000;

/** What became of one volume. */
export interface VolumeOutcome {
  readonly counts: NonNullable<VolumeRecord['counts']>;
  readonly complete: boolean;
  readonly touched: number;
  /** Entries whose owner is nobody in the container's user namespace. */
  readonly unmappedOwners: number;
}

/** Takes one volume; what cannot be had is a gap. */
export async function captureVolume(parts: VolumeParts): Promise<VolumeOutcome> {
  using pool = new DirectoryPool();
  using node = holdNode(parts.fd, pool);
  const gaps = new VolumeGaps(parts.context, shown(parts.volume));
  const pass = new VolumePass(parts, gaps, await admission(parts, node));
  // A name for the one call that wants one: reading a link's target where there is no C library, and then no copy either.
  const proc = pool.root('/proc/self/fd');
  await pass.found(EMPTY, { directory: proc, name: Buffer.from(String(parts.fd)), node });
  if (node.kind === 'directory') await pass.below(pool.root(`/proc/self/fd/${parts.fd}/.`));
  pass.summarise();
  gaps.end();
  return {
    counts: { ...pass.counts, gaps: gaps.count },
    complete: pass.complete,
    touched: pass.touched,
    unmappedOwners: pass.unmappedOwners,
  };
}

const EMPTY = Buffer.alloc(0);

export function shown({ mount }: Pick<Volume, 'mount'>): string {
  return describePath(bytesOf(mount.mountPoint)).path;
}

type Admission = (entry: Entry) => NotStored | undefined;

/** Which files may be stored. Where more may be there than the budget has, sizes are looked at first. */
async function admission(parts: VolumeParts, root: Node): Promise<Admission> {
  const { volume, budget, fileBytes, usedBytes } = parts;
  const { notStored } = volume.decision;
  if (notStored !== undefined) return () => notStored;
  const fits = root.kind !== 'directory' || (usedBytes !== undefined && usedBytes <= budget.leftBytes);
  const survey = fits ? undefined : await surveyOf(parts);
  const admit = budget.of({ fileBytes }, survey);
  return (entry) => admit(costOf(entry.node));
}

async function surveyOf({ context, fd, volume, fileBytes }: VolumeParts): Promise<SizeSurvey> {
  using pool = new DirectoryPool();
  const survey = new SizeSurvey();
  let entries = 0;
  for await (const event of walk(pool.root(`/proc/self/fd/${fd}/.`), { signal: context.signal })) {
    if (event.kind !== 'found') continue;
    entries += 1;
    if (entries > volume.decision.entries) break;
    const bytes = event.node.kind === 'file' ? costOf(event.node) : 0;
    if (bytes <= fileBytes) survey.add(bytes);
  }
  return survey;
}

/** Bytes that the archive will have of a file: its data alone where it is stored so. */
function costOf({ stat }: Node): number {
  const allocated = stat.blocks * 512n;
  return Number(chooseForm(stat.size, allocated, HOLES_IN_ALL) === 'data-only' ? allocated : stat.size);
}

/** One walk through a volume. */
class VolumePass {
  readonly counts = {
    entries: 0,
    files: 0,
    contentFiles: 0,
    contentBytes: 0,
    notStored: {} as Partial<Record<NotStored, { files: number; bytes: number }>>,
  };
  complete = true;
  unmappedOwners = 0;
  #directoriesTouched = 0;
  readonly #parts: VolumeParts;
  readonly #gaps: VolumeGaps;
  readonly #members: MemberWriter;
  readonly #place: Buffer;
  readonly #memberRoot: Buffer;

  constructor(parts: VolumeParts, gaps: VolumeGaps, admit: Admission) {
    this.#parts = parts;
    this.#gaps = gaps;
    this.#members = new MemberWriter(parts.outputs.layer, parts.context, admit);
    this.#place = bytesOf(parts.volume.mount.mountPoint.replace(/^\//, ''));
    this.#memberRoot = Buffer.from(String(parts.volume.number));
  }

  get touched(): number {
    return this.#members.touched + this.#directoriesTouched;
  }

  async below(root: Directory): Promise<void> {
    const { context, volume } = this.#parts;
    for await (const event of walk(root, { signal: context.signal })) {
      if (event.kind === 'found') {
        if (this.counts.entries > volume.decision.entries) return this.#cut();
        await this.found(event.path, { directory: event.parent, name: event.name, node: event.node });
      } else if (event.kind === 'missed') {
        reportGap(this.#gaps, join(this.#place, event.path), event.why, event.errno);
      } else if (event.kind === 'listed' && !event.keepsAtime) this.#directoriesTouched += 1;
    }
  }

  /** `path` is below the volume's root, and empty for the root itself. */
  async found(path: Buffer, at: { directory: Directory; name: Buffer; node: Node }): Promise<void> {
    const { volume, outputs, examine, ids } = this.#parts;
    const place = path.length === 0 ? this.#place : join(this.#place, path);
    const memberPath = path.length === 0 ? this.#memberRoot : join(this.#memberRoot, path);
    const { entry } = readEntry(this.#gaps, undefined, { ...at, path: place, memberPath }, ids);
    const stored = await this.#store(entry);
    if (stored.gap !== undefined) reportGap(this.#gaps, place, stored.gap.why, stored.gap.errno);
    await examine(entry, stored);
    const { content, gap, notStored } = stored;
    const verdict = { change: undefined, content, gap, notStored, volume: volume.number };
    await list(outputs, entry, stored.as, verdict);
    this.#count(entry, stored);
  }

  /** Where no content is taken there is nothing for an archive: names and times are in the inventory. */
  async #store(entry: Entry): Promise<Stored> {
    const { notStored } = this.#parts.volume.decision;
    if (notStored !== undefined) return { as: { kind: 'none' }, notStored };
    return this.#members.write(entry, entry.node);
  }

  #count({ node }: Entry, { as, content, notStored }: Stored): void {
    this.counts.entries += 1;
    if (this.#parts.ids?.has(node.stat) === false) this.unmappedOwners += 1;
    if (node.kind === 'file') {
      this.counts.files += 1;
      if (as.kind === 'member') this.counts.contentFiles += 1;
      this.counts.contentBytes += content?.sizeBytes ?? 0;
      if (notStored !== undefined) {
        const left = this.counts.notStored[notStored] ?? { files: 0, bytes: 0 };
        // Apparent sizes of hostile files may add up to more than a number holds exactly.
        const bytes = Math.min(left.bytes + costOf(node), Number.MAX_SAFE_INTEGER);
        this.counts.notStored[notStored] = { files: left.files + 1, bytes };
      }
    }
    if (this.counts.entries % REPORT_EVERY === 0) this.#parts.context.progress(this.#members.contentBytes);
  }

  #cut(): void {
    this.complete = false;
    const why = `it has more than ${this.#parts.volume.decision.entries} entries; what comes after them in the order of names is not listed`;
    reportGap(this.#gaps, this.#place, why, undefined);
  }

  /** What the limits left out, once and not a file at a time. */
  summarise(): void {
    const words: Partial<Record<NotStored, string>> = {
      'file-size': `larger than one file may be (volumes.fileBytes, ${this.#parts.fileBytes} bytes)`,
      budget: 'for which nothing was left of volumes.contentBytes',
    };
    for (const [reason, { files, bytes }] of Object.entries(this.counts.notStored)) {
      const why = words[reason as NotStored];
      if (why === undefined) continue;
      reportGap(this.#gaps, this.#place, `content of ${files} files (${bytes} bytes) is not stored: ${why}`, undefined);
    }
  }
}
