import type { RungName } from '../../evidence/dump.ts';
import { tmpfsRoom } from '../capture/ladder.ts';
import type { Runtime, RuntimeIdentity } from '../runtime/runtime.ts';
import { type Check, type Line, line, size } from './check.ts';
import { isAtLeast, type Version, versionOf } from './version.ts';

const NO_MATTER = 'memory does not depend on it';

export interface CheckpointFacts {
  readonly kind: Runtime['kind'];
  /** Undefined: the runtime did not answer. */
  readonly identity: RuntimeIdentity | undefined;
  /** Names of the ways that the runtime offers, see CheckpointRung. */
  readonly rungs: readonly string[];
  /** False: switched off in the runtime's configuration; undefined: it does not say. */
  readonly switch: boolean | undefined;
}

/** Whether somebody can be asked for a checkpoint. */
export function checkCheckpoint(facts: CheckpointFacts): Check {
  const say = line('checkpoint', 'checkpoint');
  const { kind, identity, rungs } = facts;
  if (rungs.length === 0)
    return say.ok(`the ${kind} runtime offers none`, `there is no checkpoint artifact; ${NO_MATTER}`);
  if (identity === undefined)
    return say.warning(
      'the runtime does not answer',
      `whether it makes checkpoints is not known; ${NO_MATTER}`,
      'see the runtime line',
    );
  const found = `${identity.name} ${identity.version} by ${rungs.join(', ')}`;
  const version = versionOf(identity.version);
  if (identity.name === 'containerd' && version !== undefined && rungs.includes('cri'))
    return ofCri(say, found, version, facts);
  if (facts.switch === false) {
    const instead = rungs.filter((name) => name !== kind);
    if (instead.length > 0)
      return say.ok(
        `${found}: those of ${kind} itself are switched off in its configuration`,
        `checkpoints are asked for by ${instead.join(', ')}; ${NO_MATTER}`,
      );
    return say.warning(
      `${found}: switched off in its configuration`,
      `the checkpoint artifact will fail; ${NO_MATTER}`,
      'allow checkpoints there (for Docker "experimental": true in daemon.json), and restart it',
    );
  }
  return say.ok(found, `CRIU checkpoints can be asked for; ${NO_MATTER}`);
}

/** What containerd's CRI does with CheckpointContainer, by version. */
function ofCri(say: Line, found: string, version: Version, { rungs, switch: allowed }: CheckpointFacts): Check {
  const instead = rungs.filter((name) => name !== 'cri');
  const price = `the checkpoint artifact will fail; ${NO_MATTER}`;
  const byOthers = `checkpoints are asked for by ${instead.join(', ')}; ${NO_MATTER}`;
  if (!isAtLeast(version, [2, 0])) {
    if (instead.length > 0) return say.ok(`${found}: its CRI has no CheckpointContainer before 2.0`, byOthers);
    return say.warning(
      `${found}: its CRI has no CheckpointContainer before 2.0`,
      price,
      'run containerd 2.1 or newer where checkpoints by CRI are wanted',
    );
  }
  if (!isAtLeast(version, [2, 1])) {
    return say.warning(
      `${found}: 2.0 writes a minimal archive and leaves a temporary image behind`,
      'the checkpoint artifact lacks the logs and statistics of newer ones',
      'run containerd 2.1 or newer where checkpoints are wanted',
    );
  }
  if (allowed === false) {
    if (instead.length > 0) return say.ok(`${found}: CRI's are switched off (enable_criu)`, byOthers);
    return say.warning(
      `${found}: switched off in its configuration (enable_criu)`,
      price,
      "set enable_criu = true in the CRI runtime section of containerd's configuration, and restart containerd",
    );
  }
  return say.ok(found, `CRIU checkpoints can be asked for; ${NO_MATTER}`);
}

export interface RoomFacts {
  readonly offered: readonly { readonly name: RungName; readonly delivers: 'archive' | 'images' }[];
  /** `checkpoint` of the configuration. */
  readonly policy: { readonly rungs: readonly RungName[]; readonly tmpfsBytes: number };
  /** MemAvailable of the node. */
  readonly availableBytes: number;
}

/** Whether policy leaves a way, and memory for CRIU's files where that way needs it. Undefined where nothing is offered. */
export function checkCheckpointRoom({ offered, policy, availableBytes }: RoomFacts): Check | undefined {
  if (offered.length === 0) return undefined;
  const say = line('checkpoint', 'checkpoint-memory');
  const allowed = offered.filter(({ name }) => policy.rungs.includes(name));
  if (allowed.length === 0) {
    return say.warning(
      `checkpoint.rungs allows ${policy.rungs.join(', ') || 'nothing'}, and the runtime offers ${offered.map(({ name }) => name).join(', ')}`,
      `no checkpoint is taken; ${NO_MATTER}`,
      'allow one of these ways, or ask for captures without the artifact',
    );
  }
  const inMemory = allowed.filter(({ delivers }) => delivers === 'images').map(({ name }) => name);
  const found = `${size(policy.tmpfsBytes)} of memory for CRIU's files; ${size(availableBytes)} available on the node`;
  if (inMemory.length === 0)
    return say.ok('no allowed way keeps files in memory', 'the runtime writes checkpoints to its own folders first');
  if (tmpfsRoom(policy.tmpfsBytes, availableBytes) === policy.tmpfsBytes)
    return say.ok(found, `containers up to that size are checkpointed by ${inMemory.join(', ')}`);
  return say.warning(
    found,
    `only ${size(tmpfsRoom(policy.tmpfsBytes, availableBytes))} would be used: larger containers stand still for longer, or have no checkpoint`,
    'lower checkpoint.tmpfsBytes, or free memory on the node',
  );
}

/** Since these, containerd looks for criu once and remembers what it found until it restarts. */
export function remembersCriu(identity: RuntimeIdentity | undefined): boolean {
  const version = versionOf(identity?.version ?? '');
  if (identity?.name !== 'containerd' || version === undefined) return false;
  return (
    isAtLeast(version, [2, 4]) ||
    [
      [2, 2, 7],
      [2, 3, 4],
    ].some((since) => version[1] === since[1] && isAtLeast(version, since))
  );
}

export interface CriuFacts {
  /** Folders that were searched, and whose they are: `the PATH of containerd (pid 812)`. */
  readonly folders: readonly string[];
  readonly whose: string;
  readonly program: { readonly name: string; readonly version: string | undefined } | undefined;
  /** See `remembersCriu`. */
  readonly remembered: boolean;
  /** uname(2) release. */
  readonly kernel: string;
}

/** The version that containerd's CRI asks for at least. */
const LEAST_CRIU = [3, 16];

export function checkCriu(facts: CriuFacts): Check {
  const say = line('checkpoint', 'criu');
  const { program, whose } = facts;
  const restart = facts.remembered ? ', then restart containerd, which remembers that it found none' : '';
  if (program === undefined) {
    return say.warning(
      `no criu in ${whose}: ${facts.folders.join(':')}`,
      `no checkpoint can be made; ${NO_MATTER}`,
      `install criu on the node where checkpoints are wanted (EKS images have none)${restart}`,
    );
  }
  const found = `${program.name} ${program.version ?? '(version not known without running it)'}, found in ${whose}`;
  const version = versionOf(program.version ?? '');
  if (version !== undefined && !isAtLeast(version, LEAST_CRIU)) {
    return say.warning(
      found,
      `older than the 3.16 that containerd asks for: the checkpoint will fail; ${NO_MATTER}`,
      'install criu 4.0 or newer',
    );
  }
  if (version !== undefined && version[0] < 4 && isAtLeast(versionOf(facts.kernel) ?? [0, 0, 0], [6, 18])) {
    return say.warning(
      `${found}, on kernel ${facts.kernel}`,
      `criu 3.17 was seen to fail on kernel 6.18 (vdso); ${NO_MATTER}`,
      'install criu 4.0 or newer',
    );
  }
  return say.ok(found, `checkpoints can be made, unless a container holds what CRIU refuses; ${NO_MATTER}`);
}

export interface CriuSettings {
  readonly configurations: ReadonlyArray<{ readonly file: string; readonly options: readonly string[] }>;
}

/** runc and CRIU read these files, and what is in them wins over what a capture asks for. */
export function checkCriuOptions({ configurations }: CriuSettings): Check {
  const say = line('checkpoint', 'criu-options');
  const telling = configurations.filter(({ options }) => options.length > 0);
  if (telling.length === 0)
    return say.ok('no configuration file of CRIU on the node', 'checkpoints are made as they are asked for');
  return say.warning(
    telling.map(({ file, options }) => `${file}: ${options.join(', ')}`).join('; '),
    'these options win over what a capture asks for (tcp-established, file-locks, where its log goes)',
    'see that they are meant; remove the file where they are not',
  );
}

export interface GraphicsFacts {
  readonly graphics: readonly string[];
  readonly plugins: readonly string[];
}

/** Undefined on a node without graphics processors. */
export function checkGraphics({ graphics, plugins }: GraphicsFacts): Check | undefined {
  if (graphics.length === 0) return undefined;
  const say = line('checkpoint', 'criu-gpu');
  const helping = plugins.filter((name) => /cuda|amdgpu/.test(name));
  if (helping.length > 0)
    return say.ok(`${graphics.join(', ')}; ${helping.join(', ')}`, 'containers that use the GPU may be checkpointed');
  return say.warning(
    `${graphics.join(', ')}, and no plugin of CRIU for it`,
    `the checkpoint of a container that uses the GPU will fail; ${NO_MATTER}`,
    "install CRIU's plugin (cuda_plugin.so with cuda-checkpoint, or amdgpu_plugin.so)",
  );
}

export function checkCheckpointKernel(supported: boolean): Check {
  const say = line('checkpoint', 'checkpoint-kernel');
  if (supported) return say.ok('CONFIG_CHECKPOINT_RESTORE is in the kernel', 'CRIU can ask for what it needs');
  return say.warning(
    'CONFIG_CHECKPOINT_RESTORE is not in the kernel',
    `CRIU cannot work here: the checkpoint artifact will fail; ${NO_MATTER}`,
    'run a kernel that was built with it where checkpoints are wanted',
  );
}
