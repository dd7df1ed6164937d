import type { CgroupSurvey } from '../host/cgroup-survey.ts';
import type { KernelFacts } from '../host/kernel.ts';
import { type Check, line } from './check.ts';
import { granted } from './grants.ts';
import { isAtLeast, versionOf } from './version.ts';

/** What the kernel can do for a capture. */
export function checkKernel(facts: KernelFacts): Check[] {
  return [
    pageScan(facts),
    softDirty(facts),
    processMemory(facts),
    unreadablePages(facts),
    yama(facts),
    lockdown(facts),
    securityModules(facts),
  ];
}

/** PAGEMAP_SCAN came with it. */
const SCANNING_KERNEL = [6, 7];

function pageScan({ pageScan, release }: KernelFacts): Check {
  const say = line('kernel', 'page-scan');
  if (pageScan === undefined)
    return say.ok(`${release}; the agent's own page map could not be opened`, 'it shows in a capture');
  if (pageScan) return say.ok(`${release} has PAGEMAP_SCAN`, 'pages that are in memory are found at once');
  const isOld = !isAtLeast(versionOf(release) ?? [0, 0, 0], SCANNING_KERNEL);
  return say.warning(
    `${release}: PAGEMAP_SCAN ${isOld ? 'came with 6.7' : 'cannot be used'}`,
    'page tables are read entry by entry: freezes of processes with large sparse mappings are longer',
    isOld
      ? 'run a kernel of 6.7 or newer'
      : 'see the system-calls line; a seccomp filter or a patched kernel may refuse it',
  );
}

function softDirty({ softDirty }: KernelFacts): Check {
  const say = line('kernel', 'soft-dirty');
  if (softDirty)
    return say.ok('soft-dirty bits are kept', 'of a target larger than the buffer only what changed is read again');
  return say.warning(
    'the kernel keeps no soft-dirty bits (it was built without, or is not x86-64)',
    'a target larger than the buffer is compared by fingerprints: it stands still for longer',
    'set memory.bufferBytes above the memory of the largest target',
  );
}

function processMemory({ memoryOfOthers, ptraceScope }: KernelFacts): Check {
  const say = line('kernel', 'process-memory');
  const { opened, refused, errno } = memoryOfOthers;
  const found = `the memory of ${opened} of ${opened + refused} other processes may be read`;
  if (opened + refused === 0)
    return say.failure('no other process is to be seen', 'no memory could be read', 'see the processes line');
  if (refused === 0) return say.ok(found, 'the memory artifact has what it asks for');
  const mend =
    ptraceScope === 3
      ? 'see the yama line'
      : `run the agent as root with CAP_SYS_PTRACE, and see the selinux and processes lines: ${granted('cap:SYS_PTRACE')}`;
  if (opened > 0)
    return say.warning(`${found} (${errno})`, 'processes that are protected like the others are gaps', mend);
  return say.failure(`${found} (${errno})`, 'the memory artifact would be empty', mend);
}

function unreadablePages({ unreadablePages, forceOverride }: KernelFacts): Check {
  const say = line('kernel', 'proc-mem');
  const booted = forceOverride === undefined ? '' : ` (booted with proc_mem.force_override=${forceOverride})`;
  if (unreadablePages === 'given')
    return say.ok(`/proc/PID/mem gives protected pages${booted}`, 'regions without read permission are captured');
  if (unreadablePages === 'untried')
    return say.ok(`could not be tried${booted}`, 'regions without read permission may become gaps');
  return say.warning(
    `/proc/PID/mem refuses protected pages${booted}`,
    'regions that the process itself may not read (PROT_NONE), where secrets can hide, are gaps',
    'boot with proc_mem.force_override=always',
  );
}

function yama({ ptraceScope }: KernelFacts): Check {
  const say = line('kernel', 'yama');
  if (ptraceScope === undefined) return say.ok('Yama is not in force', 'it restricts nothing');
  const found = `kernel.yama.ptrace_scope is ${ptraceScope}`;
  if (ptraceScope < 3) return say.ok(found, 'it does not stop an agent that has CAP_SYS_PTRACE');
  return say.failure(
    found,
    'nobody may look into another process: no memory, no registers, no checkpoint',
    'set kernel.yama.ptrace_scope to 2 or less in /etc/sysctl.d and reboot: the kernel does not let it be lowered',
  );
}

function lockdown({ lockdown }: KernelFacts): Check {
  const say = line('kernel', 'lockdown');
  if (lockdown === undefined)
    return say.ok('kernel lockdown is not there, or not told', 'it does not matter to a capture');
  return say.ok(
    `kernel lockdown: ${lockdown}`,
    'it closes the memory of the kernel, which a capture does not read, and not that of processes',
  );
}

/** SELinux domains that may look into everybody's processes and files; the last two are Bottlerocket's. */
const FREE_DOMAINS = ['unconfined_t', 'spc_t', 'super_t', 'control_t'];

function securityModules({ selinux, securityModules }: KernelFacts): Check {
  const say = line('kernel', 'selinux');
  const others = securityModules.length === 0 ? '' : `; security modules: ${securityModules.join(', ')}`;
  if (selinux === undefined) return say.ok(`SELinux is not in force${others}`, 'it restricts nothing');
  const domain = selinux.context.split(':')[2] ?? '';
  const found = `SELinux is ${selinux.enforcing ? 'enforcing' : 'permissive'}, the agent runs as ${domain === '' ? 'a context that is not told' : domain}${others}`;
  if (!selinux.enforcing) return say.ok(found, 'it restricts nothing');
  if (domain === 'control_t')
    return say.ok(found, 'processes and writable layers may be read, not written: that is all a capture needs');
  if (FREE_DOMAINS.includes(domain)) return say.ok(found, 'processes and files of containers may be read');
  return say.warning(
    found,
    'processes and files of containers may be out of reach, and become gaps',
    'run the agent privileged, or set seLinuxOptions.type (spc_t; super_t on Bottlerocket)',
  );
}

export function checkCgroup({ mode, freezer }: CgroupSurvey): Check {
  const say = line('kernel', 'cgroup');
  if (freezer === undefined) {
    return say.warning(
      `${mode === 'none' ? 'no control groups are' : `cgroup ${mode}, and no freezer is`} mounted where the agent can see it`,
      "containers are stopped by the runtime's pause, processes by signals, which their parents can see",
      `mount the node's root into the agent, and set runtime.hostRoot: ${granted('mount:/host')}`,
    );
  }
  if (mode !== 'v2') {
    return say.warning(
      `cgroup ${mode === 'hybrid' ? 'v1 and v2 (hybrid)' : 'v1'}`,
      "containers are stopped by the runtime's pause, which is slower; what stands in a v1 freezer cannot be killed, and its registers are not read",
      'boot with systemd.unified_cgroup_hierarchy=1 (see docs/freezing.md)',
    );
  }
  if (!freezer.writable) {
    return say.warning(
      `cgroup v2, not writable at ${freezer.folder}`,
      "containers are stopped by the runtime's pause, which is slower; processes by signals, which their parents can see",
      `reach the cgroups through runtime.hostRoot: ${granted('mount:/host')}`,
    );
  }
  return say.ok(
    'cgroup v2 with a freezer that may be used',
    'containers are stopped by the kernel at once, unnoticed by the runtime',
  );
}
