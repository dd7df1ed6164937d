import type { Registry } from 'prom-client';
import type { LimitNumbers } from '../limits.ts';

type Prom = typeof import('prom-client');

/** What the agent's limits held back, and whom they refused: docs/good-neighbour.md. */
export function limitMetrics({ Counter, Gauge }: Prom, registers: Registry[], numbers: () => LimitNumbers): void {
  new Gauge({
    name: 'exhibit_heavy_captures',
    help: 'Heavy captures by state: running, or waiting for their turn',
    labelNames: ['state'],
    registers,
    collect() {
      const { heavyRunning, heavyWaiting } = numbers();
      this.set({ state: 'running' }, heavyRunning);
      this.set({ state: 'waiting' }, heavyWaiting);
    },
  });
  new Counter({
    name: 'exhibit_queued_seconds_total',
    help: 'How long heavy captures waited for their turn',
    registers,
    collect() {
      this.reset();
      this.inc(numbers().queuedSeconds);
    },
  });
  new Counter({
    name: 'exhibit_paced_seconds_total',
    help: 'How long reading, compressing and sending were held back, by limit: cpu, read, upload',
    labelNames: ['limit'],
    registers,
    collect() {
      this.reset();
      for (const [limit, seconds] of Object.entries(numbers().pacedSeconds)) this.inc({ limit }, seconds);
    },
  });
  new Counter({
    name: 'exhibit_room_refusals_total',
    help: 'Captures that were refused for want of room, by what was short: memory, pressure, disk, queue',
    labelNames: ['short'],
    registers,
    collect() {
      this.reset();
      for (const [short, times] of Object.entries(numbers().refusals)) this.inc({ short }, times);
    },
  });
  new Counter({
    name: 'exhibit_room_overridden_total',
    help: 'Captures that began in spite of that, because their request was allowed to say so',
    registers,
    collect() {
      this.reset();
      this.inc(numbers().overridden);
    },
  });
}
