import { columns, intOf, latin1, linesOf } from './decode.ts';
import { ipv4FromWord, ipv6FromWords } from './network-address.ts';

export type InetProtocol = 'tcp' | 'udp' | 'udplite' | 'raw' | 'icmp';

/** One line of /proc/net/{tcp,udp,udplite,raw,icmp}[6]; Documentation/networking/proc_net_tcp.rst. */
export interface InetSocket {
  readonly protocol: InetProtocol;
  readonly family: 'ipv4' | 'ipv6';
  readonly localAddress: string;
  /** Of raw sockets: the IP protocol number; of icmp sockets: the echo identifier. */
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  /** As ss(8) calls it: `established`, `listen`, … */
  readonly state: string;
  /** Bytes sent and not acknowledged. */
  readonly sendQueueBytes: number;
  /** Bytes received and not read; for a listening socket, connections that wait to be accepted. */
  readonly receiveQueueBytes: number;
  readonly timer: string;
  /** Time until the timer fires, in clock ticks (USER_HZ). */
  readonly timerTicks: number;
  readonly retransmits: number;
  readonly uid: number;
  /** 0 for sockets that no process holds any more: time-wait, orphans, requests. */
  readonly inode: number;
  /** Packets lost because the receive buffer was full; UDP and raw only. */
  readonly drops?: number;
}

/** include/net/tcp_states.h; number 12 is a request socket of a listener. */
const STATES: readonly string[] = [
  ...[
    '',
    'established',
    'syn-sent',
    'syn-recv',
    'fin-wait-1',
    'fin-wait-2',
    'time-wait',
    'close',
    'close-wait',
    'last-ack',
  ],
  ...['listen', 'closing', 'new-syn-recv', 'bound-inactive'],
];

/** The `tr` column. 2 stands for keep-alive and for delayed acknowledgements. */
const TIMERS = ['none', 'retransmit', 'keepalive', 'time-wait', 'probe'];

const LINE =
  /^\s*\d+: ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]+):([0-9A-F]{4}) ([0-9A-F]{2}) ([0-9A-F]{8}):([0-9A-F]{8}) ([0-9A-F]{2}):([0-9A-F]{8,16}) ([0-9A-F]{8})(.*)$/;

/** Only numbers are printed, so a line is a socket; lines that are none (the heading) are left out. */
export function* parseInet(
  bytes: Uint8Array,
  protocol: InetProtocol,
  family: InetSocket['family'],
): Generator<InetSocket> {
  const addressOf = family === 'ipv4' ? ipv4FromWord : ipv6FromWords;
  for (const line of linesOf(bytes)) {
    const [, local = '', localPort = '', remote = '', remotePort = '', state = '', tx = '', rx = '', ...more] =
      LINE.exec(line) ?? [];
    const localAddress = addressOf(local);
    const remoteAddress = addressOf(remote);
    if (localAddress === undefined || remoteAddress === undefined) continue;
    const [timer = '', when = '', retransmits = '', rest = ''] = more;
    const [uid, , inode, , , drops] = columns(rest);
    const lost = protocol === 'tcp' ? undefined : intOf(drops);
    yield {
      protocol,
      family,
      localAddress,
      localPort: Number.parseInt(localPort, 16),
      remoteAddress,
      remotePort: Number.parseInt(remotePort, 16),
      state: stateOf(protocol, Number.parseInt(state, 16)),
      sendQueueBytes: Number.parseInt(tx, 16),
      receiveQueueBytes: Number.parseInt(rx, 16),
      timer: TIMERS[Number.parseInt(timer, 16)] ?? timer,
      timerTicks: Number.parseInt(when, 16),
      retransmits: Number.parseInt(retransmits, 16),
      uid: intOf(uid) ?? 0,
      inode: intOf(inode) ?? 0,
      ...(lost === undefined ? {} : { drops: lost }),
    };
  }
}

function stateOf(protocol: InetProtocol, state: number): string {
  // A datagram socket that was not connected carries the number of TCP's CLOSE.
  if (protocol !== 'tcp' && state === 7) return 'unconnected';
  return STATES[state] || String(state);
}

/** Local IPv4 addresses of /proc/net/fib_trie: the leaves marked `/32 host LOCAL`, each once. */
export function parseLocalAddresses(bytes: Uint8Array): string[] {
  const found = new Set<string>();
  let leaf: string | undefined;
  for (const line of latin1(bytes).split('\n')) {
    const address = /\|-- (\d{1,3}(?:\.\d{1,3}){3})$/.exec(line)?.[1];
    if (address !== undefined) leaf = address;
    else if (leaf !== undefined && /^\s*\/32 host LOCAL/.test(line)) found.add(leaf);
  }
  return [...found];
}
