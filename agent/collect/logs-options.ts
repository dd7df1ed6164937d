/** Which of the node's own logs are looked at. */
export const NODE_LOG_SOURCES = ['journal', 'kernel', 'audit', 'files'] as const;
export type NodeLogSource = (typeof NODE_LOG_SOURCES)[number];

export interface LogsOptions {
  /** Stored of the container's log and its rotations, the newest first. */
  readonly containerBytes: number;
  readonly node: readonly NodeLogSource[];
  /** Stored of the node's logs, all in all, before compression; roughly, since records are counted before they are written. */
  readonly nodeBytes: number;
  /** The window begins so long before the container was made: image pulls, the sandbox, a scheduler's decision. */
  readonly windowMarginMs: number;
  /** And never longer ago than this. */
  readonly windowMaxMs: number;
  /** Of systemd, whose every journal entry in the window is taken. */
  readonly units: readonly string[];
}

const MINUTE_MS = 60_000;

export const LOGS_DEFAULTS: LogsOptions = {
  containerBytes: 512 * 2 ** 20,
  node: NODE_LOG_SOURCES,
  nodeBytes: 256 * 2 ** 20,
  windowMarginMs: 10 * MINUTE_MS,
  windowMaxMs: 7 * 24 * 60 * MINUTE_MS,
  units: ['kubelet.service', 'containerd.service', 'docker.service'],
};
