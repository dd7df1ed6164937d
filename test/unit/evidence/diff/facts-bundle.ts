import { readManifest } from '../../../../cli/bundle.ts';
import { factsOfBundle } from '../../../../cli/diff-bundle.ts';
import { openBundle } from '../../../../evidence/bundle.ts';
import type { Facts } from '../../../../evidence/facts/facts.ts';
import {
  type FACT_KINDS,
  type Fields,
  type KindFacts,
  kindsOf,
  packFields,
  unpackFields,
} from '../../../../evidence/facts/facts.ts';
import type { ArtifactRecord } from '../../../../evidence/manifest.ts';
import { jsonLines } from '../timeline/everything.ts';
import { artifactRecord, type Contents, inventoryLine, timelineBundle } from '../timeline/timeline-bundle.ts';

/** Bundles of a small web server, and facts that are made by hand. */

export const digest = (letter: string): string => letter.repeat(64);

export const process = (pid: number, path: string, more: Readonly<Record<string, unknown>> = {}): object => ({
  pid,
  comm: path.split('/').at(-1),
  commandLine: [path],
  executable: { path, deleted: false, memfd: false, sha256: digest('a') },
  status: { uids: { real: 0, effective: 0, saved: 0, filesystem: 0 } },
  anomalies: [],
  descriptors: [{ fd: 0 }],
  ...more,
});

export const socket = (more: Readonly<Record<string, unknown>>): object => ({
  protocol: 'tcp',
  family: 'ipv4',
  localAddress: '10.0.0.7',
  localPort: 80,
  remoteAddress: '0.0.0.0',
  remotePort: 0,
  state: 'listen',
  namespace: 1,
  owners: [{ pid: 7, fd: 3 }],
  ...more,
});

export const PASSWD = 'root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/srv:/bin/false\n';

export interface Parts {
  readonly processes?: readonly object[];
  readonly mapped?: readonly object[];
  readonly sockets?: readonly object[];
  readonly passwd?: string;
  readonly group?: string;
  readonly files?: readonly (object | string)[];
  readonly modules?: readonly object[];
  /** Over the records of artifacts, by name. */
  readonly artifacts?: Readonly<Record<string, Partial<ArtifactRecord>>>;
}

const NETWORK_FACTS = { rootFiles: ['etc/passwd', 'etc/group'], namespaces: [{ inode: 1, processes: 1, host: false }] };

/** A server on port 80 with one client, one library, one changed file. */
export function webBundle(parts: Parts = {}): Contents {
  const artifacts = {
    processes: 'processes.tar.zst',
    network: 'network.tar.zst',
    node: 'node.tar.zst',
    rootfs: INVENTORY,
  };
  return {
    archives: {
      'processes.tar.zst': {
        'proc/7/status': 'Name:\tweb\n',
        'processes.jsonl': jsonLines(...(parts.processes ?? [process(7, '/usr/bin/web')])),
        'mapped.jsonl': jsonLines(
          ...(parts.mapped ?? [{ path: '/usr/bin/web' }, { path: '/lib/libc.so', sha256: digest('c') }]),
        ),
        'recovered/7/exe': 'ELF',
      },
      'network.tar.zst': {
        'sockets.jsonl': linesOf(parts.sockets ?? [socket({}), client('10.0.0.9', 4711)]),
        'mntns-2/etc/passwd': parts.passwd ?? PASSWD,
        'mntns-2/etc/group': parts.group ?? 'root:x:0:\nwww:x:33:ann,bob\n',
      },
      'node.tar.zst': {
        'kernel.jsonl': '',
        'modules.jsonl': jsonLines(...(parts.modules ?? [{ name: 'overlay', in: ['proc', 'sys'], taints: [] }])),
        'bpf.jsonl': '',
      },
    },
    lists: { [INVENTORY]: parts.files ?? [inventoryLine({ path: 'srv/cache', mode: '644' })] },
    manifest: {
      artifacts: Object.entries(artifacts).map(([name, object]) => ({
        ...artifactRecord(name, [object]),
        ...(name === 'network' ? { facts: NETWORK_FACTS } : {}),
        ...parts.artifacts?.[name],
      })),
    },
  };
}

/** There may be more than a call takes arguments. */
const linesOf = (values: readonly object[]): string => values.map((value) => `${JSON.stringify(value)}\n`).join('');

export const INVENTORY = 'rootfs.inventory.jsonl.zst';

export const client = (
  remoteAddress: string,
  remotePort: number,
  more: Readonly<Record<string, unknown>> = {},
): object => socket({ state: 'established', remoteAddress, remotePort, ...more });

export async function factsIn(contents: Contents): Promise<Facts> {
  await using bundle = await timelineBundle(contents);
  await using reader = await openBundle(bundle.folder);
  const { signal } = new AbortController();
  const manifest = await readManifest(reader, signal);
  return await factsOfBundle({ reader, manifest, signal, progress: undefined });
}

export const fieldsOf = ({ entries }: KindFacts): Record<string, Fields> =>
  Object.fromEntries([...entries].map(([key, packed]) => [key, unpackFields(packed)]));

/** Facts of which each kind is as given; the others are known and empty. */
export function someFacts(
  kinds: Partial<Record<(typeof FACT_KINDS)[number], Readonly<Record<string, Fields>>>> = {},
): Facts {
  return {
    about: {
      captureId: 'c',
      at: '2026-11-22T10:00:00.000Z',
      cluster: 'c',
      node: 'n',
      target: 't',
      outcome: 'complete',
    },
    kinds: kindsOf((kind) => ({
      state: 'known',
      why: [],
      entries: new Map(Object.entries(kinds[kind] ?? {}).map(([key, fields]) => [key, packFields(fields)])),
    })),
  };
}
