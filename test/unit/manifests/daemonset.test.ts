import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { GRANTS, granted, lineOf } from '../../../agent/doctor/grants.ts';
import { AGENT_ENVIRONMENT } from '../../../agent/environment.ts';
import { NEEDED_CAPABILITIES } from '../../../agent/host/capabilities.ts';
import { MANIFESTS } from '../../lab/manifests.ts';
import { grantsOf, mountRightsOf } from '../../lab/pod-grants.ts';
import { parseWorkload, podOf } from '../../lab/rendered-pod.ts';

/** The DaemonSet's privileges: none without a reason beside it, and none that the agent does not know of. */

const text = readFileSync(path.join(MANIFESTS, 'base/agent/daemonset.yaml'), 'utf8');
const agent = parseWorkload(text);
const pod = podOf(agent);
const [container] = pod.containers;

/** Edits of the manifest that grant more. */
const withMore = (line: string, more: string) => {
  expect(text).toContain(`${line}\n`);
  return text.replace(`${line}\n`, `${line}\n${more}\n`);
};

/** Grants without a comment in the lines right above them, or which grants.ts does not have. */
function unexplained(manifest: string): string[] {
  const lines = manifest.split('\n');
  return grantsOf(parseWorkload(manifest)).filter((id) => {
    const line = lineOf(manifest, id);
    if (line === undefined || !Object.hasOwn(GRANTS, id)) return true;
    // A mount begins a line earlier, with its name.
    const above = lines[line - (id.startsWith('mount:') ? 3 : 2)] ?? '';
    return !/^\s*# \S.{20,}/.test(above) && !continues(lines, line - 2);
  });
}

/** The last line of a comment may be short. */
function continues(lines: readonly string[], from: number): boolean {
  for (let at = from; at > from - 3; at -= 1) {
    const [now = '', before = ''] = [lines[at], lines[at - 1]];
    if (/^\s*# /.test(now) && /^\s*# /.test(before)) return true;
  }
  return false;
}

describe('the privileges of the agent', () => {
  test('each has its reason in the manifest, and an entry in grants.ts', () => {
    expect(unexplained(text)).toEqual([]);
  });

  test('grants.ts has none that the manifest does not grant', () => {
    expect(Object.keys(GRANTS).sort()).toEqual(grantsOf(agent).sort());
  });

  test.each([
    [
      'a capability',
      withMore(
        '            - NET_ADMIN',
        '                # Load modules, for a reason as good as any.\n                - SYS_MODULE',
      ),
      'cap:SYS_MODULE',
    ],
    ['a capability that is known, without a reason', text.replace(/ *# Stop and continue[^\n]*\n/, ''), 'cap:KILL'],
    ['privileged', text.replace('privileged: false', 'privileged: true'), 'privileged'],
    ['the network of the node', text.replace('hostPID: true', 'hostPID: true\n      hostNetwork: true'), 'hostNetwork'],
    ['the ipc namespace of the node', text.replace('hostPID: true', 'hostPID: true\n      hostIPC: true'), 'hostIPC'],
    [
      'a mount',
      withMore(
        '              readOnly: true',
        '            # Whatever somebody keeps there, to be read by the agent.\n            - name: node\n              mountPath: /etc/shadow',
      ),
      'mount:/etc/shadow',
    ],
  ])('one more is seen: %s', (_what, manifest, id) => {
    expect(manifest).not.toBe(text);
    expect(unexplained(manifest)).toEqual([id]);
  });

  test('lifting the seccomp profile would be one more', () => {
    const lifted = text.replace('type: RuntimeDefault', 'type: Unconfined');
    expect(grantsOf(parseWorkload(lifted))).toContain('seccompProfile');
    expect(unexplained(lifted)).toEqual(['seccompProfile']);
  });

  test('every capability of the container is dropped before', () => {
    expect(container.securityContext.capabilities.drop).toEqual(['ALL']);
    expect(container.securityContext.readOnlyRootFilesystem).toBe(true);
  });

  test('the doctor asks for the same capabilities', () => {
    const asked = NEEDED_CAPABILITIES.map(({ name }) => name).sort();
    expect(asked).toEqual(container.securityContext.capabilities.add.map((name) => `CAP_${name}`).sort());
  });

  test('what is mounted can be written to in one place only', () => {
    expect(mountRightsOf(agent).filter((right) => right.startsWith('write:'))).toEqual(['write:/run/exhibit']);
  });

  test('mounts of the node follow what the node unmounts, so that no volume is held', () => {
    const hostPaths = new Set(pod.volumes.filter((one) => 'hostPath' in one).map(({ name }) => name));
    for (const mount of container.volumeMounts.filter(({ name }) => hostPaths.has(name))) {
      expect(mount).toMatchObject({ mountPropagation: 'HostToContainer', recursiveReadOnly: 'Disabled' });
    }
    expect(hostPaths.size).toBe(3);
  });
});

test.each([
  ['hostPID', /^\s*hostPID: true$/],
  ['cap:SYS_PTRACE', /^\s*- SYS_PTRACE$/],
  ['mount:/run/exhibit', /^\s*mountPath: \/run\/exhibit$/],
  ['appArmorProfile', /^\s*appArmorProfile:$/],
] as const)('%s is told with the line that grants it', (id, line) => {
  const words = granted(id);
  const number = Number(/ is granted by manifests\/base\/agent\/daemonset\.yaml:(\d+) \(.+\)$/.exec(words)?.[1]);
  expect(text.split('\n')[number - 1]).toMatch(line);
});

describe('the agent pod', () => {
  test('has the environment that keeps the agent small, and knows node and pod', () => {
    const env = Object.fromEntries(
      container.env.map(({ name, value, valueFrom }) => [name, value ?? valueFrom?.fieldRef.fieldPath]),
    );
    expect(env).toMatchObject({
      ...AGENT_ENVIRONMENT,
      EXHIBIT_NODE: 'spec.nodeName',
      EXHIBIT_POD: '$(POD_NAMESPACE)/$(POD_NAME)',
    });
  });

  test('has memory for the buffer, the spool and itself', () => {
    const mebibytes = { own: 200, guardAndCommand: 100, buffer: 1024, spool: 512 };
    const sum = Object.values(mebibytes).reduce((all, one) => all + one);
    expect(container.resources.limits).toEqual({ memory: '2Gi' });
    expect(sum).toBeLessThan(2048);
  });

  test('is found by the labels that the plugin and the command look for', () => {
    expect(agent.spec.template.metadata.labels).toMatchObject({
      'app.kubernetes.io/name': 'exhibit',
      'app.kubernetes.io/component': 'agent',
    });
  });

  test('runs on tainted nodes, and is asked on its port for machines', () => {
    const whole = parse(text).spec.template.spec;
    expect(whole.tolerations).toEqual([{ operator: 'Exists' }]);
    expect(whole.priorityClassName).toBe('system-node-critical');
    const [{ ports, startupProbe, livenessProbe, readinessProbe }] = whole.containers;
    expect(ports).toEqual([{ name: 'metrics', containerPort: 9464 }]);
    expect([startupProbe, livenessProbe, readinessProbe].map(({ httpGet }) => httpGet)).toEqual([
      { path: '/healthz', port: 'metrics' },
      { path: '/healthz', port: 'metrics' },
      { path: '/readyz', port: 'metrics' },
    ]);
  });
});
