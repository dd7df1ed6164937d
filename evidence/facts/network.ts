import { z } from 'zod';
import { readAtMost } from '../byte-sink.ts';
import type { Gap } from '../manifest.ts';
import { readTar } from '../tar-reader.ts';
import { isPartOf } from '../timeline/archive.ts';
import { addGroups, addUsers } from './accounts.ts';
import { cutText, type FactsBuilder, type FactsLimits, type KindFacts, sortedSet, unknownFacts } from './facts.ts';
import { type FactsArtifact, type FactsSource, factLines, missGaps, readKinds } from './read.ts';

/** Ports, peers and accounts, of `network.tar.zst`: docs/volatile.md. */

const socketSchema = z.object({
  protocol: z.string(),
  localAddress: z.string().optional(),
  localPort: z.number().optional(),
  remoteAddress: z.string().optional(),
  remotePort: z.number().optional(),
  state: z.string().optional(),
  namespace: z.number().optional(),
  owners: z.array(z.object({ pid: z.number() })).optional(),
});
type Socket = z.infer<typeof socketSchema>;

const namespacesSchema = z.array(z.object({ inode: z.number(), host: z.boolean().optional() }));

/** A line has at most 32 owners and a socket filter of some KiB. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;
/** Connections held until it is known which ports listen, some 200 bytes each; a busy proxy has some ten thousand. */
const MAX_CONNECTIONS = 200_000;
/** As the agent lists them. */
const MAX_OWNERS = 32;
/** As the agent takes them. */
const MAX_ACCOUNTS_BYTES = 4 * 1024 * 1024;

export async function readNetwork(
  source: FactsSource,
  limits: FactsLimits,
  executableOf: ReadonlyMap<number, string>,
): Promise<{ ports: KindFacts; peers: KindFacts; users: KindFacts }> {
  const object = 'network.tar.zst';
  const from = { artifact: 'network', object, kinds: ['ports', 'peers', 'users'] } as const;
  let hasAccounts = false;
  const facts = await readKinds(source, limits, from, async ({ ports, peers, users }, artifact) => {
    hasAccounts = soughtAccounts(artifact);
    missGaps(ports.builder, artifact, (gap) => !isAboutOther(gap));
    missGaps(peers.builder, artifact, (gap) => !isAboutOther(gap));
    missGaps(users.builder, artifact, ({ what }) => /\betc\/(passwd|group)\b|^name service files/.test(what));
    const sockets = createSockets(artifact, executableOf);
    try {
      for await (const { header, path, body } of readTar(source.content(object))) {
        if (header.type !== 'file') continue;
        const accounts = /^mntns-[^/]+\/etc\/(passwd|group)$/.exec(path)?.[1];
        if (isPartOf('sockets', path)) {
          for await (const batch of factLines(body, socketSchema, MAX_LINE_BYTES, { name: path, ...ports })) {
            for (const { value } of batch) sockets.add(value, ports.builder, peers.builder);
          }
        } else if (accounts !== undefined) {
          hasAccounts = true;
          const bytes = await readAtMost(body, MAX_ACCOUNTS_BYTES);
          if (bytes === undefined) users.builder.incomplete(`${path} is larger than ${MAX_ACCOUNTS_BYTES} bytes`);
          else (accounts === 'passwd' ? addUsers : addGroups)(users.builder, bytes);
        } else if (/^(nftables|iptables|conntrack|traffic-control|routes)/.test(path)) {
          // Sockets come before these.
          ports.done = true;
          peers.done = true;
        }
      }
    } finally {
      sockets.end(peers.builder);
    }
  });
  if (hasAccounts || facts.users.state !== 'known') return facts;
  return { ...facts, users: unknownFacts('the agent of that capture did not take etc/passwd and etc/group') };
}

/** Agents that take the accounts say so, for an image may have none. */
function soughtAccounts({ facts }: FactsArtifact): boolean {
  return z.array(z.string()).safeParse(facts.rootFiles).data?.includes('etc/passwd') === true;
}

const SOCKET_TABLES = /^netns-\d+(\/(tcp6?|udp6?|udplite6?|raw6?|packet))?$/;

/** A gap that takes nothing from the sockets; of one that is not known it may. */
function isAboutOther({ what }: Gap): boolean {
  if (what.startsWith('netns-')) return !SOCKET_TABLES.test(what);
  return /^(mntns-|name service files|netlink )| for netns-/.test(what);
}

interface Sockets {
  add(socket: Socket, ports: FactsBuilder, peers: FactsBuilder): void;
  /** When all were added: only then it is known who called whom. */
  end(peers: FactsBuilder): void;
}

interface Connection {
  readonly place: string;
  readonly protocol: string;
  readonly address: string;
  readonly localPort: number;
  readonly remotePort: number;
  readonly executables: readonly string[] | undefined;
}

function createSockets(artifact: FactsArtifact, executableOf: ReadonlyMap<number, string>): Sockets {
  const known = namespacesSchema.safeParse(artifact.facts.namespaces).data ?? [];
  const ofNode = new Set(known.filter(({ host }) => host === true).map(({ inode }) => inode));
  const listening = new Set<string>();
  const connections: Connection[] = [];
  const executablesOf = ({ owners = [] }: Socket): string[] | undefined => {
    const found = sortedSet(owners.slice(0, MAX_OWNERS).flatMap(({ pid }) => executableOf.get(pid) ?? []));
    return found.length === 0 ? undefined : found;
  };
  return {
    add(socket, ports, peers) {
      const { protocol, state, namespace, owners = [], localPort = 0, remotePort = 0 } = socket;
      if (namespace !== undefined && ofNode.has(namespace) && owners.length === 0) {
        ports.note(LEFT_OUT);
        peers.note(LEFT_OUT);
        return;
      }
      const place = `${namespace} ${protocol} ${localPort}`;
      const executables = executablesOf(socket);
      if (isOpen(protocol, state, localPort)) {
        if (listening.size < MAX_CONNECTIONS) listening.add(place);
        const address = cutText(socket.localAddress ?? '*');
        const key = protocol === 'packet' ? 'packet' : `${protocol} ${withPort(address, localPort)}`;
        ports.add(key, { protocol, address, port: localPort, executables });
      } else if (isConnection(socket)) {
        if (connections.length >= MAX_CONNECTIONS) {
          peers.incomplete(`only the first ${MAX_CONNECTIONS} connections are looked at`);
          return;
        }
        const address = cutText(socket.remoteAddress ?? '');
        connections.push({ place, protocol, address, localPort, remotePort, executables });
      }
    },
    end(peers) {
      for (const { place, protocol, address, localPort, remotePort, executables } of connections) {
        const isIncoming = listening.has(place);
        const port = isIncoming ? localPort : remotePort;
        const key = isIncoming
          ? `in ${protocol} ${address} to port ${port}`
          : `out ${protocol} ${withPort(address, port)}`;
        peers.add(key, { direction: isIncoming ? 'in' : 'out', protocol, address, port, executables });
      }
    },
  };
}

const LEFT_OUT = 'the target is in the node’s network: sockets that no process of it holds are left out';

/** What takes in what nobody asked for: listeners, datagram sockets with a port, raw sockets and readers of frames. */
function isOpen(protocol: string, state: string | undefined, port: number): boolean {
  switch (protocol) {
    case 'tcp':
      return state === 'listen';
    case 'udp':
    case 'udplite':
      return state === 'unconnected' && port !== 0;
    case 'raw':
    case 'packet':
      return true;
    default:
      return false;
  }
}

function isConnection({ protocol, remotePort = 0, state }: Socket): boolean {
  return ['tcp', 'udp', 'udplite'].includes(protocol) && remotePort !== 0 && state !== 'listen';
}

function withPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
