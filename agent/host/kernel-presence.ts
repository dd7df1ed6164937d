import { statSync } from 'node:fs';
import { asHostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';
import { MIB, readBounded } from './procfs.ts';

/**
 * Whether a part of the kernel is there already. To ask for one that is not would make the kernel run modprobe and load it, and
 * evidence is not changed by looking at it.
 */
export type Presence =
  | { readonly kind: 'present' }
  /** The kernel knows no modules (CONFIG_MODULES), so asking loads nothing. */
  | { readonly kind: 'askable' }
  | { readonly kind: 'absent'; readonly why: string };

/** By the name of its module: a function that is in the kernel's symbols when the part is built in. */
const SYMBOLS = {
  nfnetlink: 'nfnetlink_rcv',
  nf_tables: 'nft_do_chain',
  nf_conntrack_netlink: 'ctnetlink_dump_table',
  inet_diag: 'inet_diag_handler_cmd',
  tcp_diag: 'tcp_diag_dump',
  udp_diag: 'udp_diag_dump',
  sctp_diag: 'sctp_diag_dump',
  vsock_diag: 'vsock_diag_dump',
  // Its name for the module is that of the socket family.
  af_packet_diag: 'packet_diag_dump',
} as const;
export type KernelPart = keyof typeof SYMBOLS;

/** Distribution kernels have 200,000 symbols in 12 MB. */
const SYMBOLS_MAX_BYTES = 64 * MIB;
/** 60 bytes a module. */
const MODULES_MAX_BYTES = 4 * MIB;

/** Looks once; `presenceOf` then answers from what was there at that time. */
export interface KernelParts {
  presenceOf(part: KernelPart): Presence;
}

export function lookAtKernelParts(host: Host): KernelParts {
  const modules = readBounded(`${host.procRoot}/modules`, MODULES_MAX_BYTES);
  const loaded = new Set(
    modules.kind === 'read'
      ? modules.bytes
          .toString('latin1')
          .split('\n')
          .map((line) => line.split(' ', 1)[0] ?? '')
      : [],
  );
  let symbols: Buffer | undefined;
  const builtIn = (part: KernelPart): boolean => {
    symbols ??= symbolsOf(host);
    return symbols.includes(` ${SYMBOLS[part]}\n`);
  };
  return {
    presenceOf(part) {
      if (modules.kind === 'failed' && modules.errno === 'ENOENT') return { kind: 'askable' };
      if (loaded.has(part) || hasFolder(host, part) || builtIn(part)) return { kind: 'present' };
      return { kind: 'absent', why: `${part} is not in the kernel, and asking would load it` };
    },
  };
}

/** Built-in parts with parameters or a version have a folder as well. */
function hasFolder(host: Host, part: string): boolean {
  try {
    return statSync(reach(host, asHostPath(`/sys/module/${part}`))).isDirectory();
  } catch {
    return false;
  }
}

function symbolsOf(host: Host): Buffer {
  const reading = readBounded(`${host.procRoot}/kallsyms`, SYMBOLS_MAX_BYTES);
  return reading.kind === 'read' ? reading.bytes : Buffer.alloc(0);
}
