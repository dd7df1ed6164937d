/** A node with the agent's image, and what its captures are told by: a container that every grant matters to, and a plain process. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Manifest } from '../../evidence/manifest.ts';
import { exhibitImage, imageObstacle } from '../lab/exhibit-image.ts';
import { renderObstacle } from '../lab/manifests.ts';
import { type LabNode, startNode } from '../lab/node.ts';
import type { LabPod } from '../lab/pod.ts';
import type { PodInputs } from '../lab/pod-translation.ts';
import { renderedAgent } from '../lab/rendered-pod.ts';
import { labObstacle, type Skippable } from '../lab/requires.ts';
import { type RunningPod, startPod } from '../lab/running-pod.ts';

export const TARGET = 'prod/web-0';

/** A file of another user in the writable layer. */
const PRIVATE = '/tmp/private';

const SNAPSHOTS = 'var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots';

export interface Finding {
  readonly name: string;
  readonly status: 'ok' | 'warning' | 'failure';
  readonly found: string;
  readonly mend: string;
}

export interface DaemonNode extends AsyncDisposable {
  readonly node: LabNode;
  readonly pod: LabPod;
  /** Selector of a process on the node that is another user's and in no container. */
  readonly plain: string;
  /** The agent of the overlay `local` unless told, with its API up. */
  start(inputs?: Partial<PodInputs>): Promise<RunningPod>;
  /** Changes the private file, so that reading it would change its access time (relatime of mount(8)). */
  touchPrivate(): Promise<void>;
  /** Of the private file, in the container's layer. */
  accessTimeNs(): bigint;
}

/** Why no pod of an overlay can run here, in words for a skipped test. */
export const podObstacle = (): string | undefined => labObstacle() ?? imageObstacle() ?? renderObstacle();

/** Skips the test, with the reason, where no pod of an overlay can run. */
export function requirePods(context: Skippable): void {
  const reason = podObstacle();
  if (reason !== undefined) context.skip(reason);
}

export async function startDaemonNode(): Promise<DaemonNode> {
  const { tar } = await exhibitImage();
  const node = await startNode();
  try {
    await node.importImage(tar);
    const pod = await runTarget(node);
    const { stdout } = await node.exec([
      'sh',
      '-c',
      'setpriv --reuid 65534 --clear-groups sleep 100000 >/dev/null 2>&1 </dev/null & echo $!',
    ]);
    const layer = layerOf(node);
    return {
      node,
      pod,
      plain: `pid:${stdout.toString().trim()}`,
      async start(inputs = {}) {
        const agent = await startPod(node, { pod: renderedAgent('overlays/local'), ...inputs });
        try {
          await agent.started();
        } catch (error) {
          await agent.stop();
          throw error;
        }
        return agent;
      },
      touchPrivate: async () => void (await pod.exec('web', ['sh', '-c', `echo more >> ${PRIVATE}`])),
      accessTimeNs: () => statSync(layer, { bigint: true }).atimeNs,
      [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
    };
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
}

async function runTarget(node: LabNode): Promise<LabPod> {
  mkdirSync(join(node.hostRoot, 'srv/data'), { recursive: true });
  writeFileSync(join(node.hostRoot, 'srv/data/found.txt'), 'in a volume');
  const mounts = [{ hostPath: '/srv/data', containerPath: '/data' }];
  const pod = await node.runPod({ namespace: 'prod', name: 'web-0', containers: [{ name: 'web', mounts }] });
  const make = `echo secret > ${PRIVATE} && chown nobody ${PRIVATE} && chmod 600 ${PRIVATE}`;
  const { code, stderr } = await pod.exec('web', ['sh', '-c', make]);
  if (code !== 0) throw new Error(`the target: ${stderr}`);
  return pod;
}

/** The private file in the upper layer of its container, as the node has it. */
function layerOf({ hostRoot }: LabNode): string {
  const folder = join(hostRoot, SNAPSHOTS);
  const found = readdirSync(folder)
    .map((name) => join(folder, name, 'fs', PRIVATE))
    .find((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
  if (found === undefined) throw new Error(`no layer has ${PRIVATE}`);
  return found;
}

/** `exhibit capture` by exec into the agent's pod; the manifest of its bundle. Throws what the command says when it fails. */
export async function captureBy(
  agent: Pick<RunningPod, 'exec'>,
  node: Pick<LabNode, 'hostRoot'>,
  target: string,
  ...artifacts: string[]
): Promise<Manifest> {
  const which = artifacts.length === 0 ? [] : ['--artifacts', artifacts.join(',')];
  const { code, stdout, stderr } = await agent.exec(['exhibit', 'capture', target, '--json', ...which]);
  if (code !== 0) throw new Error(`exhibit capture ended with ${code}: ${stderr}`);
  const { sinkUrl } = JSON.parse(stdout.toString().split('\n')[0] ?? '') as { sinkUrl: string };
  return JSON.parse(readFileSync(join(node.hostRoot, new URL(sinkUrl).pathname, 'manifest.json'), 'utf8'));
}

/** `exhibit doctor` by exec: all of its lines. */
export async function linesBy(agent: Pick<RunningPod, 'exec'>): Promise<readonly Finding[]> {
  const { stdout, stderr } = await agent.exec(['exhibit', 'doctor', '--json']);
  if (stdout.length === 0) throw new Error(stderr);
  return (JSON.parse(stdout.toString()) as { checks: Finding[] }).checks;
}

/** The same: the line of a name. */
export async function doctorBy(agent: Pick<RunningPod, 'exec'>): Promise<(name: string) => Finding> {
  const checks = await linesBy(agent);
  return (name) => {
    const found = checks.find((one) => one.name === name);
    if (found === undefined) throw new Error(`the doctor has no line ${name}`);
    return found;
  };
}

/** What a manifest says was not captured, without what differs from one capture to the next. */
export function gapsOf(manifest: Manifest, artifact?: string): string[] {
  return manifest.artifacts
    .filter(({ name }) => artifact === undefined || name === artifact)
    .flatMap(({ name, status, gaps }) => [
      ...(status === 'captured' || status === 'partial' ? [] : [`${name}: ${status}`]),
      ...gaps.map(({ what, errno, why }) =>
        `${name}: ${what}: ${errno ?? 'no errno'}: ${why}`.replaceAll(/\d{2,}/g, 'N'),
      ),
    ]);
}
