import { inNetworkNamespace, readDump } from './netlink-calls.ts';
import { dumpRequest, NETLINK_DUMPS, type NetlinkDump } from './network-netlink.ts';
import { type FileReading, failed, LIMIT_BYTES } from './procfs.ts';

/**
 * Asks the kernel of one network namespace what /proc does not tell: the state of interfaces, IPv6 neighbours, routes of all
 * tables, peers of unix sockets. Asking for unix sockets may make the kernel load its module `unix_diag`, as ss(8) does.
 */
export type NetlinkReading = Readonly<Partial<Record<NetlinkDump, FileReading>>>;

/** `namespace`: path of a net namespace, for example /proc/17/ns/net. */
export function readNetlink(namespace: string, wanted: readonly NetlinkDump[] = ALL_DUMPS): NetlinkReading {
  try {
    return inNetworkNamespace(namespace, (calls) =>
      dumps(wanted, (dump) =>
        readDump(calls, {
          protocol: NETLINK_DUMPS[dump].protocol,
          request: dumpRequest(dump),
          limitBytes: LIMIT_BYTES.network,
        }),
      ),
    );
  } catch (error) {
    return dumps(wanted, () => failed(error));
  }
}

const ALL_DUMPS = ['link', 'address', 'neighbour', 'route', 'unix'] as const;

function dumps(wanted: readonly NetlinkDump[], read: (dump: NetlinkDump) => FileReading): NetlinkReading {
  return Object.fromEntries(wanted.map((dump) => [dump, read(dump)]));
}
