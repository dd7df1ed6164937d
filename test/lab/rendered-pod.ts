/**
 * The pods of an overlay as `kubectl kustomize` renders them, with the ConfigMaps that they name. Strict: a field that is not
 * here would be one that no test has seen, so a manifest that says more is refused until the lab does as it says.
 */
import { parse } from 'yaml';
import { z } from 'zod';
import { type KubernetesObject, nameOf, render } from './manifests.ts';

const fieldRef = z.strictObject({ fieldPath: z.string(), apiVersion: z.literal('v1').optional() });
const env = z.strictObject({
  name: z.string(),
  value: z.string().optional(),
  valueFrom: z.strictObject({ fieldRef }).optional(),
});
const profile = z.strictObject({ type: z.enum(['RuntimeDefault', 'Unconfined']) });
const volumeMount = z.strictObject({
  name: z.string(),
  mountPath: z.string(),
  readOnly: z.boolean().default(false),
  recursiveReadOnly: z.enum(['Disabled', 'IfPossible', 'Enabled']).default('Disabled'),
  mountPropagation: z.enum(['None', 'HostToContainer', 'Bidirectional']).default('None'),
});
const secret = z.strictObject({ secretName: z.string(), defaultMode: z.number().default(0o644) });
const volume = z.union([
  z.strictObject({ name: z.string(), hostPath: z.strictObject({ path: z.string(), type: z.string().optional() }) }),
  z.strictObject({ name: z.string(), configMap: z.strictObject({ name: z.string() }) }),
  z.strictObject({ name: z.string(), secret }),
  z.strictObject({ name: z.string(), persistentVolumeClaim: z.strictObject({ claimName: z.string() }) }),
  z.strictObject({
    name: z.string(),
    emptyDir: z.strictObject({ medium: z.string().optional(), sizeLimit: z.string().optional() }),
  }),
]);
const containerSecurity = z.strictObject({
  runAsUser: z.number().optional(),
  runAsGroup: z.number().optional(),
  readOnlyRootFilesystem: z.boolean(),
  privileged: z.boolean(),
  allowPrivilegeEscalation: z.boolean().optional(),
  capabilities: z.strictObject({ drop: z.array(z.string()), add: z.array(z.string()).default([]) }),
  seccompProfile: profile.optional(),
  appArmorProfile: profile.optional(),
  seLinuxOptions: z.record(z.string(), z.string()).optional(),
});
const podSecurity = z.strictObject({
  runAsNonRoot: z.boolean().optional(),
  runAsUser: z.number().optional(),
  runAsGroup: z.number().optional(),
  fsGroup: z.number().optional(),
  fsGroupChangePolicy: z.string().optional(),
  seccompProfile: profile.optional(),
});
const probe = z.strictObject({
  httpGet: z.strictObject({ path: z.string(), port: z.string() }),
  periodSeconds: z.number(),
  timeoutSeconds: z.number().default(1),
  failureThreshold: z.number().default(3),
});
const container = z.strictObject({
  name: z.string(),
  image: z.string(),
  imagePullPolicy: z.string(),
  args: z.array(z.string()),
  env: z.array(env),
  ports: z.array(z.strictObject({ name: z.string(), containerPort: z.number() })),
  startupProbe: probe,
  livenessProbe: probe,
  readinessProbe: probe,
  resources: z.strictObject({ requests: z.record(z.string(), z.string()), limits: z.record(z.string(), z.string()) }),
  securityContext: containerSecurity,
  volumeMounts: z.array(volumeMount),
});
const podSpec = z.strictObject({
  serviceAccountName: z.string(),
  automountServiceAccountToken: z.boolean(),
  enableServiceLinks: z.literal(false),
  terminationGracePeriodSeconds: z.number(),
  hostPID: z.boolean().default(false),
  hostNetwork: z.boolean().default(false),
  hostIPC: z.boolean().default(false),
  securityContext: podSecurity.default({}),
  initContainers: z.array(z.looseObject({ name: z.string() })).default([]),
  containers: z.tuple([container]),
  volumes: z.array(volume),
  // Which nodes it runs on, and who has to give way: the scheduler's and kubelet's.
  priorityClassName: z.string().optional(),
  tolerations: z.array(z.looseObject({})).optional(),
  nodeSelector: z.record(z.string(), z.string()).optional(),
  affinity: z.looseObject({}).optional(),
});
const workload = z.object({
  kind: z.enum(['DaemonSet', 'Deployment']),
  metadata: z.object({ name: z.string(), namespace: z.string() }),
  spec: z.object({
    template: z.strictObject({
      metadata: z.strictObject({
        labels: z.record(z.string(), z.string()),
        annotations: z.record(z.string(), z.string()).optional(),
      }),
      spec: podSpec,
    }),
  }),
});

export type Workload = z.infer<typeof workload>;
export type PodSpec = z.infer<typeof podSpec>;
export type Container = z.infer<typeof container>;
export type Probe = z.infer<typeof probe>;

export const podOf = ({ spec }: Workload): PodSpec => spec.template.spec;

/** Of a manifest's own text. */
export const parseWorkload = (text: string): Workload => workload.parse(parse(text));

/** A workload, and what its pods are given beside it. */
export interface RenderedPod {
  /** Below `manifests/`. */
  readonly overlay: string;
  readonly workload: Workload;
  /** Text by file name, by the ConfigMap's name, which ends in a digest of it. */
  readonly configMaps: ReadonlyMap<string, Readonly<Record<string, string>>>;
  /** Of its service account; by an annotation IRSA knows the role. */
  readonly serviceAccountAnnotations: Readonly<Record<string, string>>;
}

const configMap = z.object({ data: z.record(z.string(), z.string()) });
const annotated = z.object({ metadata: z.object({ annotations: z.record(z.string(), z.string()).default({}) }) });

/** @param overlay below `manifests/`; throws where it has no such workload */
export function renderedPod(
  overlay: string,
  name: 'DaemonSet exhibit-agent' | 'Deployment exhibit-controller',
): RenderedPod {
  const objects = render(overlay);
  const found = workload.parse(find(objects, name, overlay));
  const maps = podOf(found).volumes.flatMap((one) => ('configMap' in one ? [one.configMap.name] : []));
  const account = find(objects, `ServiceAccount ${podOf(found).serviceAccountName}`, overlay);
  return {
    overlay,
    workload: found,
    configMaps: new Map(maps.map((one) => [one, configMap.parse(find(objects, `ConfigMap ${one}`, overlay)).data])),
    serviceAccountAnnotations: annotated.parse(account).metadata.annotations,
  };
}

function find(objects: readonly KubernetesObject[], name: string, overlay: string): KubernetesObject {
  const found = objects.find((one) => nameOf(one) === name);
  if (found === undefined) throw new Error(`${overlay} has no ${name}`);
  return found;
}

export const renderedAgent = (overlay: string): RenderedPod => renderedPod(overlay, 'DaemonSet exhibit-agent');
export const renderedController = (overlay: string): RenderedPod =>
  renderedPod(overlay, 'Deployment exhibit-controller');
