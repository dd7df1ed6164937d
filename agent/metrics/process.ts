import type { Registry } from 'prom-client';

/** A finer look would wake the process a hundred times a second. */
const EVENT_LOOP_PRECISION_MS = 100;

/** Gauges that are named as counters are, which promtool does not take, and what tells nobody anything here. */
const LEFT_OUT = [
  'nodejs_active_resources',
  'nodejs_active_resources_total',
  'nodejs_active_handles',
  'nodejs_active_handles_total',
  'nodejs_active_requests',
  'nodejs_active_requests_total',
  'nodejs_heap_space_size_total_bytes',
  'nodejs_heap_space_size_used_bytes',
  'nodejs_heap_space_size_available_bytes',
  'process_heap_bytes',
];

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
  for (const name of LEFT_OUT) registry.removeSingleMetric(name);
}
