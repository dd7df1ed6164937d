import { ExhibitError } from '../../evidence/error.ts';
import { type Alert, fieldsOf, listOf, priorityOf, record, timeOf, word } from './alert.ts';
import type { SourceConfig } from './config.ts';
import { placed } from './place.ts';

/**
 * Alertmanager's webhook, version 4: a group of alerts. https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
 */
export function readAlertmanager(body: unknown, source: SourceConfig): Alert[] {
  const group = record(body, 'The body');
  if (group.version !== '4' || !Array.isArray(group.alerts)) {
    throw new ExhibitError('usage', "The body is no payload of Alertmanager's webhook, version 4");
  }
  return listOf(group.alerts).map((one) => readOne(record(one, 'An alert'), source));
}

function readOne(alert: Record<string, unknown>, source: SourceConfig): Alert {
  const fields = fieldsOf(alert.labels);
  const { namespace, pod, container } = source.labels;
  const label = (name: string) => fields.get(name) ?? '';
  const priority = priorityOf(label('severity'));
  const atMs = timeOf(alert.startsAt);
  return {
    // An alert that ended and came again is another one.
    id: `${word(alert.fingerprint) || label('alertname')} ${word(alert.startsAt)}`,
    rule: label('alertname'),
    ...(alert.status === 'firing' ? {} : { over: 'it does not fire any more' }),
    ...(priority === undefined ? {} : { priority }),
    ...(atMs === undefined ? {} : { atMs }),
    tags: [],
    fields,
    ...placed(fields, source, ''),
    namespace: label(namespace),
    pod: label(pod),
    container: label(container),
    containerIds: [],
    workload: label('deployment'),
  };
}
