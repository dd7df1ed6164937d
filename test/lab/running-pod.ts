/** A pod of an overlay on a lab node, made over CRI as kubelet makes it: see pod-translation.ts. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ExecResult, run } from './machine.ts';
import type { LabNode } from './node.ts';
import { asKubelet, type Identity, type PodInputs } from './pod-translation.ts';
import { type Probe, podOf } from './rendered-pod.ts';

export interface RunningPod extends AsyncDisposable {
  readonly containerId: string;
  readonly identity: Identity;
  /** In the network of the node. */
  readonly address: string;
  /** As `kubectl exec` runs it. */
  exec(argv: readonly string[]): Promise<ExecResult>;
  /** The program's log so far. */
  log(): string;
  /** Asks as kubelet does, from the node; status 0: nobody answers. */
  probe(which: 'startupProbe' | 'livenessProbe' | 'readinessProbe'): Promise<{ status: number; text: string }>;
  /** Until the startup probe is answered as kubelet wants it; rejects with the log when the container ends before. */
  started(): Promise<void>;
  /** Whether the container's process 1 runs. */
  isRunning(): Promise<boolean>;
  /** On this machine. */
  pid(): Promise<number>;
  /** SIGTERM and the grace period of the manifest, then the pod is removed. Gives the exit code of its process 1. */
  stop(): Promise<number>;
}

const EXEC_TIMEOUT_S = 100;
/** Kubelet's own period would be most of what a test waits for. */
const POLL_MS = 50;
/** CRI's container states. */
const RUNNING = 1;

/** Starts the pod; it is not waited for, see `started`. */
export async function startPod(node: LabNode, inputs: PodInputs): Promise<RunningPod> {
  const { identity, sandbox, container, graceSeconds } = asKubelet(node, inputs);
  const [spec] = podOf(inputs.pod.workload).containers;
  const { cri } = node;
  const { pod_sandbox_id } = await cri.call('RunPodSandbox', { config: sandbox });
  const remove = async () => {
    await cri.call('StopPodSandbox', { pod_sandbox_id });
    await cri.call('RemovePodSandbox', { pod_sandbox_id });
  };
  let containerId: string;
  let address: string;
  try {
    address = (await cri.call('PodSandboxStatus', { pod_sandbox_id })).status.network?.ip ?? '';
    const made = await cri.call('CreateContainer', { pod_sandbox_id, config: container, sandbox_config: sandbox });
    containerId = made.container_id;
    await cri.call('StartContainer', { container_id: containerId });
  } catch (error) {
    await remove();
    throw error;
  }
  const exec = async (argv: readonly string[]): Promise<ExecResult> => {
    const answer = await cri.call('ExecSync', { container_id: containerId, cmd: argv, timeout: EXEC_TIMEOUT_S });
    return { code: answer.exit_code, stdout: answer.stdout, stderr: answer.stderr.toString() };
  };
  const status = () => cri.call('ContainerStatus', { container_id: containerId, verbose: true });
  const isRunning = async () => Number((await status()).status.state) === RUNNING;
  const log = () => logText(join(node.hostRoot, sandbox.log_directory, container.log_path));
  const portOf = (name: string) => spec.ports.find((one) => one.name === name)?.containerPort ?? 0;
  const urlOf = ({ httpGet }: Probe) => `http://${address}:${portOf(httpGet.port)}${httpGet.path}`;
  const probe: RunningPod['probe'] = (which) => ask(node, urlOf(spec[which]), spec[which].timeoutSeconds);
  const stop = async () => {
    await cri.call('StopContainer', { container_id: containerId, timeout: graceSeconds });
    const { exit_code } = (await status()).status;
    await cri.call('RemoveContainer', { container_id: containerId });
    await remove();
    return exit_code;
  };
  let stopped: Promise<number> | undefined;
  const stopOnce = () => (stopped ??= stop());
  return {
    ...{ containerId, identity, address, exec, log, probe, isRunning },
    async started() {
      const { periodSeconds, failureThreshold } = spec.startupProbe;
      const deadline = Date.now() + periodSeconds * failureThreshold * 1000;
      while ((await probe('startupProbe')).status !== 200) {
        if (!(await isRunning())) throw new Error(`the container ended at its start: ${log()}`);
        if (Date.now() > deadline) throw new Error(`kubelet would start the container again: ${log()}`);
        await sleep(POLL_MS);
      }
    },
    async pid() {
      const details = JSON.parse((await status()).info.info ?? '{}') as { pid?: number };
      return node.hostPid(details.pid ?? 0);
    },
    stop: stopOnce,
    [Symbol.asyncDispose]: async () => void (await stopOnce()),
  };
}

/** By curl of this machine in the network of the node. */
async function ask(node: LabNode, url: string, timeoutSeconds: number): Promise<{ status: number; text: string }> {
  const words = ['--silent', '--noproxy', '*', '--max-time', String(timeoutSeconds), '--write-out', '\n%{http_code}'];
  const { stdout } = await inNetwork(node, ['curl', ...words, url]);
  const lines = stdout.toString().split('\n');
  return { status: Number(lines.pop()), text: lines.join('\n') };
}

/** A program of this machine in the network of the node. */
export function inNetwork(node: Pick<LabNode, 'initPid'>, argv: readonly string[]): Promise<ExecResult> {
  return run('nsenter', [`--net=/proc/${node.initPid}/ns/net`, '--', ...argv]);
}

/** Of a CRI log, whose lines are `TIME STREAM TAG TEXT`. */
function logText(file: string): string {
  if (!existsSync(file)) return '';
  return readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.split(' ').slice(3).join(' '))
    .join('\n');
}
