/**
 * What an analyst asks of a node's kernel, each with why: Documentation/admin-guide/sysctl, capabilities(7), kernel_lockdown(7), core(5).
 * Data only; collect/node.ts reads it.
 */
export interface KernelSetting {
  /** Below the node's proc(5) or, with a slash at its beginning, a path of the node. */
  readonly file: string;
  readonly why: string;
}

const sysctl = (names: string, why: string): KernelSetting[] =>
  names.split(' ').map((name) => ({ file: `sys/${name}`, why }));

const ESCAPE = 'a program that the kernel starts as root outside of every container: a way out of one';

/** Small files with one value each. */
export const KERNEL_SETTINGS: readonly KernelSetting[] = [
  { file: 'version', why: 'which kernel, built when and by whom' },
  { file: 'cmdline', why: 'what it was started with: security switched off, other init programs' },
  { file: 'uptime', why: 'when it started' },
  { file: 'loadavg', why: 'how busy it is: miners' },
  ...sysctl('kernel/random/boot_id', 'which start of the node this is'),
  ...sysctl('kernel/core_pattern', `behind a |, ${ESCAPE}`),
  ...sysctl('kernel/core_pipe_limit kernel/core_uses_pid fs/suid_dumpable', 'who dumps core, and where it goes'),
  ...sysctl('kernel/modprobe kernel/hotplug kernel/poweroff_cmd', ESCAPE),
  { file: '/sys/kernel/uevent_helper', why: ESCAPE },
  ...sysctl('kernel/usermodehelper/bset kernel/usermodehelper/inheritable', 'what those programs may do'),
  ...sysctl('kernel/tainted', "whether modules that are not the distribution's were loaded, or the kernel has failed"),
  ...sysctl('kernel/modules_disabled', 'whether modules can be loaded'),
  { file: '/sys/module/module/parameters/sig_enforce', why: 'whether modules must be signed' },
  { file: '/sys/kernel/security/lockdown', why: 'whether root may change the running kernel' },
  { file: '/sys/kernel/security/lsm', why: 'which security modules decide' },
  { file: '/sys/fs/selinux/enforce', why: 'whether SELinux refuses or only reports' },
  ...sysctl('kernel/kexec_load_disabled', 'whether another kernel can be started'),
  { file: '/sys/kernel/kexec_loaded', why: 'another kernel is waiting to be started' },
  ...sysctl('kernel/kptr_restrict kernel/dmesg_restrict', 'who sees addresses of the kernel'),
  ...sysctl('kernel/randomize_va_space vm/mmap_min_addr', 'whether memory lies where an exploit expects it'),
  ...sysctl('kernel/yama/ptrace_scope kernel/perf_event_paranoid', 'who may look into other processes'),
  ...sysctl('kernel/unprivileged_bpf_disabled net/core/bpf_jit_harden', 'who may load eBPF programs'),
  ...sysctl('kernel/bpf_stats_enabled', 'whether eBPF programs are timed'),
  ...sysctl(
    'user/max_user_namespaces kernel/unprivileged_userns_clone kernel/apparmor_restrict_unprivileged_userns',
    'who may become root in a namespace of their own',
  ),
  ...sysctl('kernel/io_uring_disabled vm/unprivileged_userfaultfd', 'ways around system call filters'),
  ...sysctl('kernel/sysrq kernel/panic_on_oops kernel/panic', 'what makes the node start again'),
  ...sysctl('kernel/seccomp/actions_logged kernel/printk', 'what is logged'),
  ...sysctl(
    'fs/protected_hardlinks fs/protected_symlinks fs/protected_fifos fs/protected_regular',
    'tricks with links in folders of everybody',
  ),
  ...sysctl('kernel/ftrace_enabled', 'whether functions of the kernel can be traced'),
];

/** Longer ones, kept as they are. */
export const KERNEL_TABLES: readonly KernelSetting[] = [
  { file: 'modules', why: 'the list of loaded modules' },
  { file: '1/mountinfo', why: "what the node's first process has mounted" },
  { file: 'swaps', why: 'where pages of memory may lie on disk' },
  { file: 'meminfo', why: 'how much memory there is and who has it' },
  { file: 'stat', why: 'start time, processes since then' },
  { file: 'filesystems', why: 'which file systems the kernel knows' },
  { file: 'devices', why: 'drivers: key loggers and memory devices' },
  { file: 'misc', why: 'drivers, as before' },
  { file: 'partitions', why: 'disks' },
  { file: 'consoles', why: "where the kernel's messages go" },
  { file: 'cgroups', why: 'which controllers there are' },
  { file: 'keys', why: 'keyrings that the agent may see' },
];

/** By the type of file system where it is mounted, since that place is not the same everywhere, and nothing is mounted for it. */
export const KERNEL_MOUNTS: Readonly<Record<string, readonly KernelSetting[]>> = {
  tracefs: [
    { file: 'current_tracer', why: 'whether the kernel is being traced' },
    { file: 'tracing_on', why: 'whether the kernel is being traced' },
    { file: 'kprobe_events', why: "probes in the kernel's functions" },
    { file: 'uprobe_events', why: 'probes in programs: they see what was to be encrypted' },
    { file: 'dynamic_events', why: 'probes of every kind' },
    { file: 'enabled_functions', why: 'functions that jump elsewhere: how rootkits hook' },
    { file: 'set_ftrace_filter', why: 'functions that are traced' },
    { file: 'set_event', why: 'events that are traced' },
  ],
  debugfs: [
    { file: 'kprobes/list', why: "probes in the kernel's functions" },
    { file: 'kprobes/enabled', why: 'whether they are armed' },
    { file: 'kprobes/blacklist', why: 'functions that cannot be probed' },
  ],
  cgroup: [
    { file: 'release_agent', why: ESCAPE },
    { file: 'notify_on_release', why: 'whether it is started' },
  ],
};

/** One file each in the folder of binfmt_misc: an interpreter that runs instead of a program. */
export const BINFMT: KernelSetting = {
  file: 'binfmt_misc',
  why: 'an interpreter that runs instead of a program, in containers too, with the flag F from outside of them',
};

/** Files of the node itself, opened only where they are regular. */
export const NODE_FILES: readonly KernelSetting[] = [
  { file: 'run/utmp', why: 'who is logged in: utmp(5)' },
  { file: 'etc/os-release', why: 'which system this is' },
  { file: 'etc/machine-id', why: 'which machine this is' },
];
