import type { Collector } from './collector.ts';
import { collectContainerLogs } from './logs-container.ts';
import { collectNodeLogs } from './logs-node.ts';
import { LOGS_DEFAULTS, type LogsOptions } from './logs-options.ts';

/** `logs.tar.zst`, what the container wrote; `node-logs.tar.zst`, what the node wrote about it. See docs/logs.md. */
export function logsCollector(options: LogsOptions = LOGS_DEFAULTS): Collector {
  return {
    artifact: 'logs',
    async collect(context) {
      await collectContainerLogs(context, options.containerBytes);
      if (options.node.length > 0) await collectNodeLogs(context, options);
    },
  };
}
