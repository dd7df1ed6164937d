import type { TargetRecord } from '../../evidence/manifest.ts';

/**
 * By what a target is known again when its pod was replaced: namespace, workload, container and the image's name; of a whole pod
 * all its containers. The image's name has the tag, so that another version of a program is another workload. Pure.
 */
export function workloadKey(target: TargetRecord): string[] {
  const { pod, companions = [], kind } = target;
  const containers = [target, ...companions]
    .map(({ name, image }) => [name, image?.name ?? ''])
    .sort(([a = ''], [b = '']) => (a < b ? -1 : 1))
    .flat();
  if (pod === undefined) return [kind, ...containers];
  return [pod.namespace, workloadOf(pod.name, target.labels), ...containers];
}

/** Letters that Kubernetes makes names of (apimachinery's `rand.String`): no vowels, nothing that looks like another. */
const RANDOM = '[bcdfghjklmnpqrstvwxz2456789]';

/** The name without what its controller added, as far as the labels say which controller it was. */
export function workloadOf(pod: string, labels: Readonly<Record<string, string>>): string {
  const template = labels['pod-template-hash'];
  if (template !== undefined) return withoutEnd(pod, `-${escaped(template)}(-${RANDOM}{5})?`);
  const job = labels['batch.kubernetes.io/job-name'] ?? labels['job-name'];
  // Of a CronJob the name ends with the minutes since 1970.
  if (job !== undefined) return withoutEnd(job, '-[0-9]{8,10}');
  const isOfStatefulSet = labels['statefulset.kubernetes.io/pod-name'] !== undefined;
  // A pod of a StatefulSet keeps its name. Of a DaemonSet it has random letters.
  if (!isOfStatefulSet && labels['controller-revision-hash'] !== undefined) return withoutEnd(pod, `-${RANDOM}{5}`);
  return pod;
}

function withoutEnd(name: string, end: string): string {
  const short = name.replace(new RegExp(`${end}$`), '');
  return short === '' ? name : short;
}

/** Labels are the pod's author's: a hash is letters and digits, anything else stays as it is. */
function escaped(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9]/g, '\\$&');
}
