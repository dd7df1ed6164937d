import { folderOf, hierarchies } from '../host/cgroup.ts';
import { procPath } from '../host/host.ts';
import { readBootClock } from '../host/identity.ts';
import { inodeOf } from '../host/network-scan.ts';
import { readLink } from '../host/procfs.ts';
import { type OpenReader, openReader } from '../host/procfs-reader.ts';
import type { Collector } from './collector.ts';
import { addNetfilter, createNetfilterLines, endNetfilterLines } from './netfilter.ts';
import { addBpf } from './node-bpf.ts';
import { addKernel } from './node-kernel.ts';
import { addModules } from './node-modules.ts';
import type { ReaderArchive } from './reader-archive.ts';

export interface NodeOptions {
  /** How /proc is read; in a reader process of its own when absent. */
  readonly openReader?: OpenReader;
}

/**
 * The `node` artifact, `node.tar.zst`: what the target shares with everybody else on the machine and a container that got out
 * would change. The kernel's settings (`kernel.jsonl`), modules (`modules.jsonl`), eBPF (`bpf.jsonl`), and the packet filters of
 * the node's own network namespace. See docs/node.md.
 */
export function nodeCollector(options: NodeOptions = {}): Collector {
  return {
    artifact: 'node',
    async collect(context) {
      await using reader = (options.openReader ?? openReader)(context.host);
      await using archive = await context.archive('node.tar.zst');
      const work: ReaderArchive = { context, reader, archive };
      const tables = await addKernel(work);
      await addModules(work, tables.get('modules'));
      const clock = readBootClock(context.host, context.now);
      await addBpf(work, {
        bootTimeMs: clock.bootTimeMs,
        cgroups: await targetCgroups(work),
        mountinfo: tables.get('1/mountinfo'),
      });
      await addNodeFilters(work);
      await archive.commit();
      context.read(reader.counts.bytes, reader.counts.opens);
      context.fact('readerCpuMs', Math.round(reader.counts.cpuMs));
    },
  };
}

/** Folders of the target's control groups in cgroup2, where programs are attached. */
async function targetCgroups({ context }: ReaderArchive): Promise<string[]> {
  const second = (await hierarchies(context.host)).filter(({ version }) => version === 2);
  const targets = [context.target, ...context.target.companions];
  const folders = targets.flatMap(({ record }) =>
    record?.cgroup === undefined ? [] : second.map((hierarchy) => folderOf(hierarchy, record.cgroup ?? '')),
  );
  return [...new Set(folders.filter((folder) => folder !== undefined))];
}

/** Where kube-proxy and network policies live. */
async function addNodeFilters(work: ReaderArchive): Promise<void> {
  const { context } = work;
  const lines = createNetfilterLines();
  const link = readLink(procPath(context.host, 1, 'ns', 'net'));
  const inode = inodeOf(link);
  if (inode === undefined) {
    const errno = link.kind === 'failed' ? { errno: link.errno } : {};
    const why = 'the network namespace of its first process cannot be read';
    context.gap({ what: 'packet filters of the node', why, ...errno });
  } else {
    await addNetfilter(work, lines, { inode, pids: [1] }, false);
    context.fact('networkNamespace', inode);
  }
  await endNetfilterLines(work, lines);
  context.fact('netfilter', lines.counts);
}
