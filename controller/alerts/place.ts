import type { Alert } from './alert.ts';
import type { SourceConfig } from './config.ts';

/** Cluster and node of an alert: fixed by the configuration, or in the field that it names, or what the payload itself says. */
export function placed(
  fields: ReadonlyMap<string, string>,
  source: SourceConfig,
  said: string,
): Pick<Alert, 'cluster' | 'node'> {
  const named = source.clusterFrom === undefined ? said : (fields.get(source.clusterFrom) ?? '');
  const cluster = source.cluster ?? named;
  return {
    cluster: Object.hasOwn(source.clusterNames, cluster) ? (source.clusterNames[cluster] ?? '') : cluster,
    node: source.nodeFrom === undefined ? '' : (fields.get(source.nodeFrom) ?? ''),
  };
}
