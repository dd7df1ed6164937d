/** Every metric that there can be: of an agent with a controller, schedules and S3, and of a controller. */
import { carefreeNeighbour } from '../../../agent/capture/neighbour.ts';
import { openAgentMetrics } from '../../../agent/metrics/agent.ts';
import { openControllerMetrics } from '../../../controller/metrics/controller.ts';

export interface Known {
  readonly name: string;
  readonly type: string;
  readonly labels: readonly string[];
  readonly help: string;
}

export async function allMetrics(): Promise<{
  readonly agent: readonly Known[];
  readonly controller: readonly Known[];
}> {
  using agent = await openAgentMetrics({ version: '1', sinks: ['default'], s3Sinks: ['default'] });
  agent.watch({
    captures: { watch: () => ({ [Symbol.dispose]: () => undefined }), list: () => [] },
    readiness: { now: () => ({ ready: true, reasons: [] }) },
    spool: async () => ({ usedBytes: 0, limitBytes: 0 }),
    limits: carefreeNeighbour().numbers,
    certificateFile: '/none',
    status: { controller: () => undefined, schedules: () => [] },
  });
  using controller = await openControllerMetrics({ version: '1' });
  controller.watch({
    links: { connected: () => [] },
    store: { countOpen: async () => new Map() },
    ready: async () => ({ ready: true }),
    listeners: [],
  });
  return { agent: known(agent), controller: known(controller) };
}

function known({ registry }: Pick<Awaited<ReturnType<typeof openAgentMetrics>>, 'registry'>): Known[] {
  return registry.getMetricsAsArray().map((one) => {
    const { name, help, labelNames = [] } = one as unknown as { name: string; help: string; labelNames?: string[] };
    return { name, type: one.constructor.name.toLowerCase(), labels: labelNames, help };
  });
}
