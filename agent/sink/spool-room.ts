/** Something that waits in the vault and may be given up for what is more volatile. */
export interface Waiting {
  /** The row of RFC 3227: higher is less volatile, and given up first. */
  readonly volatility: number;
  /** Of the capture; 0 for what is of none. */
  readonly startedAtMs: number;
  /** Of the object: parts of one are given up from its end. */
  readonly folder: string;
  readonly number: number;
  readonly sizeBytes: number;
}

/**
 * What is given up so that `neededBytes` more of `claim` fit: only what is less volatile than it, the least volatile first,
 * among equals what the newest capture took, and an object from its end, so that as much as can be of its beginning stays.
 * Undefined when even all of that is too little: then nothing is given up in vain. Pure.
 */
export function chooseVictims<Some extends Waiting>(
  waiting: Iterable<Some>,
  claim: { readonly volatility: number },
  neededBytes: number,
): Some[] | undefined {
  const candidates = [...waiting].filter(({ volatility }) => volatility > claim.volatility).sort(leastFirst);
  const victims: Some[] = [];
  let freedBytes = 0;
  for (const candidate of candidates) {
    if (freedBytes >= neededBytes) break;
    victims.push(candidate);
    freedBytes += candidate.sizeBytes;
  }
  return freedBytes >= neededBytes ? victims : undefined;
}

function leastFirst(one: Waiting, other: Waiting): number {
  return (
    other.volatility - one.volatility ||
    other.startedAtMs - one.startedAtMs ||
    (one.folder < other.folder ? -1 : one.folder > other.folder ? 1 : other.number - one.number)
  );
}

/**
 * How much the vault may hold in all. In memory never more than what it holds already and half of what the node, and the
 * agent's own cgroup, have left beside it. Pure.
 */
export function spoolLimit(
  configuredBytes: number,
  usedBytes: number,
  room: { readonly availableBytes: number; readonly cgroupRoomBytes: number | undefined } | undefined,
): number {
  if (room === undefined) return configuredBytes;
  const leftBytes = Math.min(room.availableBytes, room.cgroupRoomBytes ?? Number.POSITIVE_INFINITY);
  return Math.min(configuredBytes, usedBytes + Math.floor(leftBytes / 2));
}
