import type { CgroupNamespaces } from '../host/cgroup-namespace.ts';
import { type Check, line } from './check.ts';
import { granted } from './grants.ts';

/**
 * Whether the agent came out of the cgroup namespace that its runtime gave it (enterNodeCgroups).
 * `isAgent`: false for a command that examines without an agent, which enters nothing.
 */
export function checkCgroupNamespace({ own, node }: CgroupNamespaces, isAgent: boolean): Check {
  const say = line('agent', 'cgroup-namespace');
  if (own === undefined)
    return say.ok('the kernel has no cgroup namespaces', 'paths of control groups are those of the node');
  if (!isAgent)
    return say.ok(
      'not known without an agent',
      "it enters the node's cgroup namespace at its start, this command does not",
    );
  const lost =
    'a guard dies together with a container of the agent that is killed, so a target may stand still until the next agent starts; freezers of other pods are not found, and their paths in evidence mean nothing elsewhere';
  if (node === undefined) {
    return say.warning(
      'the cgroup namespace of process 1 can neither be read nor entered',
      lost,
      `run the agent as root with CAP_SYS_PTRACE: ${granted('cap:SYS_PTRACE')}`,
    );
  }
  if (own !== node) {
    return say.warning(
      "the agent did not get into the node's cgroup namespace, and is in one of its own",
      lost,
      `let it enter that of process 1 at its start: ${granted('hostPID', 'cap:SYS_ADMIN')}`,
    );
  }
  return say.ok(
    "the agent is in the node's cgroup namespace",
    'a guard outlives the container of the agent, and paths of control groups are those of the node',
  );
}
