import { captureSource } from './capture.ts';
import { containerLogsSource } from './container-logs.ts';
import { findingsSource } from './findings.ts';
import { inventorySource } from './inventory.ts';
import { networkSource } from './network.ts';
import { nodeSource } from './node.ts';
import { nodeLogsSource } from './node-logs.ts';
import { processesSource } from './processes.ts';
import { specSource } from './spec.ts';
import type { TimelineSource } from './timeline.ts';

/**
 * Everything that a timeline is made of, in the order in which events of the same time are told: what was meant to be, who
 * ran, which files, what they wrote, and last the observer. To add a kind of evidence, write a source and name it here.
 */
export const TIMELINE_SOURCES: readonly TimelineSource[] = [
  specSource,
  processesSource,
  networkSource,
  inventorySource('rootfs.inventory.jsonl.zst'),
  findingsSource('rootfs.findings.jsonl.zst'),
  inventorySource('volumes.inventory.jsonl.zst'),
  findingsSource('volumes.findings.jsonl.zst'),
  containerLogsSource,
  nodeLogsSource,
  nodeSource,
  captureSource,
];
