import { type Alert, containerIdOf, fieldsOf, listOf, priorityOf, record, timeOf, word } from './alert.ts';
import type { SourceConfig } from './config.ts';
import { placed } from './place.ts';

/**
 * What falcosidekick posts to its output `webhook`, which is Falco's own JSON output with `uuid`, `hostname`, `source` and `tags`: one
 * event a request. https://github.com/falcosecurity/falcosidekick/blob/master/docs/outputs/webhook.md
 */
export function readFalco(body: unknown, source: SourceConfig): Alert[] {
  const events = Array.isArray(body) ? body : [body];
  return events.map((event) => readEvent(record(event, 'The event'), source));
}

function readEvent(event: Record<string, unknown>, source: SourceConfig): Alert {
  const fields = new Map(fieldsOf(event.output_fields));
  for (const name of ['hostname', 'source'] as const) if (!fields.has(name)) fields.set(name, word(event[name]));
  const field = (...names: string[]) => names.map((name) => fields.get(name)).find((value) => value) ?? '';
  const id = containerIdOf(field('container.full_id', 'container.id'));
  const priority = priorityOf(word(event.priority));
  const atMs = timeOf(event.time);
  return {
    id: word(event.uuid) || `${word(event.rule)} ${word(event.time)}`,
    rule: word(event.rule),
    ...(priority === undefined ? {} : { priority }),
    ...(atMs === undefined ? {} : { atMs }),
    tags: listOf(event.tags).slice(0, 100).map(word),
    fields,
    ...placed(fields, source, ''),
    // k8smeta is the plugin that asks the API server, k8s.* what the runtime's labels say.
    namespace: field('k8s.ns.name', 'k8smeta.ns.name'),
    pod: field('k8s.pod.name', 'k8smeta.pod.name'),
    container: '',
    containerIds: id === '' ? [] : [id],
    workload: field('k8smeta.deployment.name'),
  };
}
