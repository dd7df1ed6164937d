import { ExhibitError } from '../../evidence/error.ts';
import { type Alert, containerIdOf, inner, listOf, record, timeOf, word } from './alert.ts';
import type { SourceConfig } from './config.ts';
import { placed } from './place.ts';

/**
 * Findings of GuardDuty in EventBridge's envelope, one or a list: of Runtime Monitoring on EKS and of EKS audit logs.
 * https://docs.aws.amazon.com/guardduty/latest/ug/guardduty_findings_eventbridge.html,
 * https://docs.aws.amazon.com/guardduty/latest/APIReference/API_KubernetesWorkloadDetails.html
 */
export function readGuardDuty(body: unknown, source: SourceConfig): Alert[] {
  const events = Array.isArray(body) ? body : [body];
  return events.map((event) => readEvent(record(event, 'The event'), source));
}

/** A pod has some containers; more of them in one finding are not looked at. */
const MAX_CONTAINERS = 20;

function readEvent(event: Record<string, unknown>, source: SourceConfig): Alert {
  if (event.source !== 'aws.guardduty' || event['detail-type'] !== 'GuardDuty Finding') {
    throw new ExhibitError('usage', "The event is no finding of GuardDuty in EventBridge's envelope");
  }
  const detail = record(event.detail, "The event's detail");
  const service = inner(detail.service);
  const resource = inner(detail.resource);
  const kubernetes = inner(resource.kubernetesDetails);
  const workload = inner(kubernetes.kubernetesWorkloadDetails);
  const process = inner(inner(service.runtimeDetails).process);
  const fields = new Map([
    ['type', word(detail.type)],
    ['title', word(detail.title)],
    ['account', word(detail.accountId)],
    ['region', word(detail.region)],
    ['feature', word(service.featureName)],
    ['process', word(process.name)],
    ['executable', word(process.executablePath)],
    ['user', word(inner(kubernetes.kubernetesUserDetails).username)],
    ['workloadKind', word(workload.type)],
  ]);
  const isPod = /^pods?$/i.test(word(workload.type));
  const atMs = timeOf(detail.updatedAt) ?? timeOf(event.time);
  const severity = typeof detail.severity === 'number' ? detail.severity : undefined;
  return {
    id: `${word(detail.id)} ${word(detail.updatedAt)}`,
    rule: word(detail.type),
    ...(service.archived === true ? { over: 'it is archived' } : {}),
    ...(severity === undefined ? {} : { severity }),
    ...(atMs === undefined ? {} : { atMs }),
    tags: [],
    fields,
    ...placed(fields, source, word(inner(resource.eksClusterDetails).name)),
    namespace: word(workload.namespace),
    pod: isPod ? word(workload.name) : '',
    container: '',
    containerIds: containersOf([...listOf(workload.containers), resource.containerDetails]),
    workload: isPod ? '' : word(workload.name),
  };
}

function containersOf(containers: readonly unknown[]): string[] {
  const ids = containers.slice(0, MAX_CONTAINERS).map((one) => containerIdOf(inner(one).id));
  return [...new Set(ids)].filter((id) => id !== '');
}
