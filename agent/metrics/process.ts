import type { Registry } from 'prom-client';

/** A finer look would wake the process a hundred times a second. */
const EVENT_LOOP_PRECISION_MS = 100;

/** What it is, and prom-client's own metrics of the process: CPU, memory, descriptors, the event loop. For agent and controller. */
export function processMetrics(
  { Gauge, collectDefaultMetrics }: typeof import('prom-client'),
  registry: Registry,
  { version }: { readonly version: string },
): void {
  new Gauge({
    name: 'exhibit_build_info',
    help: 'Always 1; which version this is',
    labelNames: ['version', 'node_version'],
    registers: [registry],
  }).set({ version, node_version: process.version }, 1);
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: EVENT_LOOP_PRECISION_MS });
}
