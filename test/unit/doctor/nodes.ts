import type { KernelFacts } from '../../../agent/host/kernel.ts';

/** What nodes of the field are expected to tell the doctor's readers: written by hand after what their makers document. */

/** EKS AL2023 on x86-64: SELinux permissive, Yama there and open to root, the pod privileged. */
export const AL2023: KernelFacts = {
  release: '6.12.40-63.114.amzn2023.x86_64',
  pageScan: true,
  softDirty: true,
  unreadablePages: 'given',
  forceOverride: undefined,
  ptraceScope: 0,
  lockdown: 'none',
  securityModules: ['lockdown', 'capability', 'landlock', 'yama', 'safesetid', 'selinux', 'bpf', 'ima'],
  selinux: { enforcing: false, context: 'system_u:system_r:unconfined_service_t:s0' },
  memoryOfOthers: { opened: 32, refused: 0, errno: undefined },
};

/** Bottlerocket: SELinux enforcing, kernel lockdown on, a privileged pod in control_t, Graviton. */
export const BOTTLEROCKET: KernelFacts = {
  release: '6.1.141',
  pageScan: false,
  softDirty: false,
  unreadablePages: 'given',
  forceOverride: undefined,
  ptraceScope: 1,
  lockdown: 'integrity',
  securityModules: ['lockdown', 'capability', 'yama', 'selinux', 'bpf'],
  selinux: { enforcing: true, context: 'system_u:system_r:control_t:s0-s0:c0.c1023' },
  memoryOfOthers: { opened: 32, refused: 0, errno: undefined },
};

/** Debian 12: no SELinux, AppArmor instead. */
export const DEBIAN: KernelFacts = {
  release: '6.1.0-37-amd64',
  pageScan: false,
  softDirty: true,
  unreadablePages: 'given',
  forceOverride: undefined,
  ptraceScope: 0,
  lockdown: 'none',
  securityModules: ['lockdown', 'capability', 'landlock', 'yama', 'apparmor', 'tomoyo', 'bpf'],
  selinux: undefined,
  memoryOfOthers: { opened: 32, refused: 0, errno: undefined },
};
