import { type Pace, REAL_PACE } from '../sink/bandwidth.ts';

/**
 * Holds a capture back so that it takes no more than its share of a core and of the disks. It does so between two pieces of
 * content, by whoever brings the next one: what reads, compresses, hashes and sends all waits for that. Nothing here is for a
 * target that stands still: capture/step.ts does not ask then.
 */
export interface Pacer {
  /**
   * Before the next piece: undefined where it may come at once, which is mostly; else resolves when it may, or rejects with the
   * signal's reason. `readBytes`: what was or will be read from disks since the last time.
   */
  pay(readBytes: number, signal: AbortSignal): Promise<void> | undefined;
  /** What the agent did until now was in a hurry, and is not held against what comes. */
  forgive(): void;
  readonly pacedMs: Readonly<Record<'cpu' | 'read', number>>;
}

export interface PacerOptions {
  /** Of one core; 0: no limit. */
  readonly cpuPercent: number;
  /** 0: no limit. */
  readonly readBytesPerSecond: number;
  readonly pace?: Pace;
  /** What the agent has used so far, in ms: all of its threads, and what it started where host/tree-cpu.ts is asked. */
  readonly cpuMs?: () => number;
}

/** So much may come at once, of a core or of the disk, as time at the full rate: a frame is compressed in some 3 ms. */
const BURST_MS = 10;
/** A shorter wait is not worth a timer; it comes with the next one. */
const LEAST_WAIT_MS = 1;
/** Of what was used at once, so much is waited for: a longer stop would look like a hang. */
const MOST_WAIT_MS = 1000;
/** To ask the kernel for each line of an inventory would itself cost. */
const LOOK_EVERY_MS = 1;

/** So many units a millisecond, and a few saved up. What is taken may make it negative: then it is waited for. */
export class Bucket {
  readonly #perMs: number;
  readonly #most: number;
  #atMs: number;
  #balance: number;

  constructor(perMs: number, nowMs: number, burst = perMs * BURST_MS) {
    this.#perMs = perMs;
    this.#most = burst;
    this.#balance = burst;
    this.#atMs = nowMs;
  }

  /** How long to wait after `units` were taken, in ms; 0: not at all. */
  take(units: number, nowMs: number): number {
    this.#balance = Math.min(this.#most, this.#balance + (nowMs - this.#atMs) * this.#perMs);
    this.#balance -= units;
    this.#atMs = nowMs;
    return this.#balance >= 0 ? 0 : -this.#balance / this.#perMs;
  }

  /** Forgets what was taken beyond so long a wait. */
  owesAtMost(ms: number): void {
    this.#balance = Math.max(this.#balance, -ms * this.#perMs);
  }
}

const ownCpuMs = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

export function createPacer(options: PacerOptions): Pacer {
  const { cpuPercent, readBytesPerSecond, pace = REAL_PACE, cpuMs = ownCpuMs } = options;
  const cpu = cpuPercent === 0 ? undefined : new Bucket(cpuPercent / 100, pace.now());
  const disk = readBytesPerSecond === 0 ? undefined : new Bucket(readBytesPerSecond / 1000, pace.now());
  const pacedMs = { cpu: 0, read: 0 };
  let usedMs = cpuMs();
  let lookedMs = pace.now();

  const overCpu = (nowMs: number): number => {
    if (cpu === undefined || nowMs - lookedMs < LOOK_EVERY_MS) return 0;
    lookedMs = nowMs;
    const before = usedMs;
    usedMs = cpuMs();
    const waitMs = cpu.take(usedMs - before, nowMs);
    cpu.owesAtMost(MOST_WAIT_MS);
    return Math.min(MOST_WAIT_MS, waitMs);
  };

  return {
    pacedMs,
    pay(readBytes, signal) {
      const nowMs = pace.now();
      const waits = { cpu: overCpu(nowMs), read: disk?.take(readBytes, nowMs) ?? 0 };
      const waitMs = Math.max(waits.cpu, waits.read);
      if (waitMs < LEAST_WAIT_MS) return undefined;
      pacedMs[waits.cpu >= waits.read ? 'cpu' : 'read'] += waitMs;
      return pace.sleep(waitMs, signal);
    },
    forgive() {
      usedMs = cpuMs();
      cpu?.take(0, pace.now());
      cpu?.owesAtMost(0);
    },
  };
}
