import { columns, intOf, linesOf } from './decode.ts';

/** SCTP as /proc/net/sctp shows it: net/sctp/proc.c. Each has several addresses at either end. */
export interface SctpSocket {
  readonly protocol: 'sctp';
  /** Of an association; `endpoint` is a socket that may have many, or listens. */
  readonly state: string;
  readonly localAddresses: string[];
  readonly localPort: number;
  readonly remoteAddresses?: string[];
  readonly remotePort?: number;
  readonly sendQueueBytes?: number;
  readonly receiveQueueBytes?: number;
  readonly uid: number;
  readonly inode: number;
}

/** enum sctp_state. */
const STATES = [
  ...['closed', 'cookie-wait', 'cookie-echoed', 'established', 'shutdown-pending', 'shutdown-sent'],
  ...['shutdown-received', 'shutdown-ack-sent'],
];

/**
 * `assocs`: ASSOC SOCK STY SST ST HBKT ASSOC-ID TX_QUEUE RX_QUEUE UID INODE LPORT RPORT LADDRS <-> RADDRS HBINT …. The primary
 * address is marked with a star.
 */
export function* parseSctpAssociations(bytes: Uint8Array): Generator<SctpSocket> {
  for (const line of linesOf(bytes).slice(1)) {
    const words = columns(line);
    const [, , , , state, , , sent, received, uid, inode, localPort, remotePort] = words.map((word) => intOf(word));
    const arrow = words.indexOf('<->');
    if (arrow < 13 || inode === undefined || localPort === undefined || remotePort === undefined) continue;
    yield {
      protocol: 'sctp',
      state: STATES[state ?? -1] ?? String(state),
      localAddresses: words.slice(13, arrow).map(withoutStar),
      localPort,
      remoteAddresses: words
        .slice(arrow + 1)
        .filter(isAddress)
        .map(withoutStar),
      remotePort,
      sendQueueBytes: sent ?? 0,
      receiveQueueBytes: received ?? 0,
      uid: uid ?? 0,
      inode,
    };
  }
}

/** `eps`: ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS. */
export function* parseSctpEndpoints(bytes: Uint8Array): Generator<SctpSocket> {
  for (const line of linesOf(bytes).slice(1)) {
    const words = columns(line);
    const [localPort, uid, inode] = words.slice(5, 8).map((word) => intOf(word));
    if (localPort === undefined || inode === undefined) continue;
    const addresses = words.slice(8).map(withoutStar);
    yield { protocol: 'sctp', state: 'endpoint', localAddresses: addresses, localPort, uid: uid ?? 0, inode };
  }
}

function withoutStar(address: string): string {
  return address.replace(/^\*/, '');
}

/** The numbers that follow the addresses have neither dots nor colons. */
function isAddress(word: string): boolean {
  return /[.:]/.test(word);
}
