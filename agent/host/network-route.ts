import { columns, hexOf, intOf, linesOf } from './decode.ts';
import { inNetwork, ipv4FromWord, ipv6FromBytes, prefixLength } from './network-address.ts';

export interface Route {
  readonly family: 'ipv4' | 'ipv6';
  /** `10.0.0.0/8`. */
  readonly destination: string;
  /** Absent for a network that is directly connected. */
  readonly gateway?: string;
  readonly interface: string;
  readonly metric: number;
  /** `up`, `gateway`, `host`, `reject`, `dynamic`, `modified`, `local`, … */
  readonly flags: string[];
  readonly mask?: string;
}

/** RTF_* of include/uapi/linux/route.h and ipv6_route.h. */
const FLAGS: readonly (readonly [number, string])[] = [
  [0x1, 'up'],
  [0x2, 'gateway'],
  [0x4, 'host'],
  [0x8, 'reinstate'],
  [0x10, 'dynamic'],
  [0x20, 'modified'],
  [0x200, 'reject'],
  [0x10000, 'default'],
  [0x40000, 'addrconf'],
  [0x400000, 'expires'],
  [0x1000000, 'cache'],
  [0x80000000, 'local'],
];

function flagNames(bits: number): string[] {
  return FLAGS.filter(([bit]) => (bits & bit) !== 0).map(([, name]) => name);
}

/** /proc/net/route: the main table of IPv4. */
export function parseRoutes(bytes: Uint8Array): Route[] {
  const routes: Route[] = [];
  for (const line of linesOf(bytes).slice(1)) {
    const [name = '', to = '', via = '', flags = '', , , metric, maskWord = ''] = columns(line);
    const [destination, gateway, mask] = [to, via, maskWord].map(ipv4FromWord);
    if (destination === undefined || mask === undefined) continue;
    routes.push({
      family: 'ipv4',
      destination: `${destination}/${prefixLength(mask)}`,
      ...(gateway === undefined || gateway === '0.0.0.0' ? {} : { gateway }),
      interface: name,
      metric: intOf(metric) ?? 0,
      flags: flagNames(Number(hexOf(flags) ?? 0n)),
      mask,
    });
  }
  return routes;
}

/** /proc/net/ipv6_route: all tables of IPv6 that the kernel walks, local ones too. */
export function parseRoutes6(bytes: Uint8Array): Route[] {
  const routes: Route[] = [];
  for (const line of linesOf(bytes)) {
    const [to = '', bits, , , via = '', metric, , , flags, name = ''] = columns(line);
    const destination = ipv6FromBytes(to);
    const gateway = ipv6FromBytes(via);
    const length = hexOf(bits);
    if (destination === undefined || length === undefined) continue;
    routes.push({
      family: 'ipv6',
      destination: `${destination}/${length}`,
      ...(gateway === undefined || gateway === '::' ? {} : { gateway }),
      interface: name,
      metric: Number(hexOf(metric) ?? 0n),
      flags: flagNames(Number(hexOf(flags) ?? 0n)),
    });
  }
  return routes;
}

export interface Neighbour {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly linkAddress: string;
  readonly interface: string;
  /** `reachable`, `stale`, …; from ARP's table only `complete`, `permanent`, `published` or `incomplete`. */
  readonly state: string;
}

/** /proc/net/arp, arp(7). It has no entries of IPv6. */
export function parseArp(bytes: Uint8Array): Neighbour[] {
  const neighbours: Neighbour[] = [];
  for (const line of linesOf(bytes).slice(1)) {
    const [address = '', , flags, linkAddress = '', , name = ''] = columns(line);
    if (!/^\d{1,3}(\.\d{1,3}){3}$/.test(address)) continue;
    const bits = Number(hexOf(flags) ?? 0n);
    const state = bits & 0x4 ? 'permanent' : bits & 0x8 ? 'published' : bits & 0x2 ? 'complete' : 'incomplete';
    neighbours.push({ family: 'ipv4', address, linkAddress, interface: name, state });
  }
  return neighbours;
}

export interface InterfaceAddress {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly prefix?: number;
  readonly scope?: string;
}

export interface Interface {
  readonly name: string;
  readonly index?: number;
  /** As RFC 2863 names it; unknown where the kernel could not be asked by netlink. */
  readonly state?: string;
  readonly flags?: string[];
  readonly linkAddress?: string;
  readonly mtu?: number;
  /** `veth`, `bridge`, `vxlan`, …; absent for hardware. */
  readonly kind?: string;
  readonly xdpProgramId?: number;
  readonly addresses: InterfaceAddress[];
  /** Addresses were put to the interface by its connected networks, not by what the kernel said. */
  readonly addressesDerived?: true;
  /** Since the interface was made, as /proc/net/dev names them: `receiveBytes`, `transmitPackets`, … */
  readonly counters: Readonly<Record<string, number>>;
}

const COUNTERS: readonly string[] = [
  ...['Bytes', 'Packets', 'Errors', 'Drops', 'Fifo', 'Frame', 'Compressed', 'Multicast'].map(
    (name) => `receive${name}`,
  ),
  ...['Bytes', 'Packets', 'Errors', 'Drops', 'Fifo', 'Collisions', 'Carrier', 'Compressed'].map(
    (name) => `transmit${name}`,
  ),
];

/** /proc/net/dev, proc_net(5). Interface names hold neither spaces nor slashes; a colon may be in an alias. */
export function parseDevices(bytes: Uint8Array): { name: string; counters: Record<string, number> }[] {
  const devices: { name: string; counters: Record<string, number> }[] = [];
  for (const line of linesOf(bytes).slice(2)) {
    const colon = line.lastIndexOf(':');
    if (colon < 0) continue;
    const values = columns(line.slice(colon + 1)).map(intOf);
    const counters: Record<string, number> = {};
    COUNTERS.forEach((name, index) => {
      const value = values[index];
      if (value !== undefined) counters[name] = value;
    });
    devices.push({ name: line.slice(0, colon).trim(), counters });
  }
  return devices;
}

const SCOPES: ReadonlyMap<number, string> = new Map([
  [0x00, 'global'],
  [0x10, 'host'],
  [0x20, 'link'],
  [0x40, 'site'],
]);

/** /proc/net/if_inet6: addresses by interface. */
export function parseAddresses6(bytes: Uint8Array): (InterfaceAddress & { name: string; index: number })[] {
  const addresses: (InterfaceAddress & { name: string; index: number })[] = [];
  for (const line of linesOf(bytes)) {
    const [hexAddress = '', index, prefix, scope, , name = ''] = columns(line);
    const address = ipv6FromBytes(hexAddress);
    if (address === undefined) continue;
    addresses.push({
      family: 'ipv6',
      address,
      prefix: Number(hexOf(prefix) ?? 0n),
      scope: SCOPES.get(Number(hexOf(scope) ?? 0n) & 0xf0) ?? 'unknown',
      name,
      index: Number(hexOf(index) ?? 0n),
    });
  }
  return addresses;
}

/** What can be said of interfaces from /proc alone: no state, and IPv4 addresses only by their connected network. */
export function deriveInterfaces(
  devices: readonly { name: string; counters: Record<string, number> }[],
  addresses6: readonly (InterfaceAddress & { name: string; index: number })[],
  localAddresses: readonly string[],
  routes: readonly Route[],
): Interface[] {
  const interfaceOf = (address: string): string | undefined =>
    address.startsWith('127.')
      ? 'lo'
      : routes.find(
          ({ mask, gateway, destination }) =>
            mask !== undefined && gateway === undefined && inNetwork(address, destination.split('/')[0] ?? '', mask),
        )?.interface;
  return devices.map(({ name, counters }) => {
    const six = addresses6.filter((address) => address.name === name);
    const four = localAddresses.filter((address) => interfaceOf(address) === name);
    const index = six[0]?.index;
    return {
      name,
      ...(index === undefined ? {} : { index }),
      addresses: [
        ...four.map((address) => ({ family: 'ipv4' as const, address })),
        ...six.map(({ name: _, index: __, ...address }) => address),
      ],
      ...(four.length > 0 ? { addressesDerived: true as const } : {}),
      counters,
    };
  });
}
