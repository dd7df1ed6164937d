import { SystemError, tryLibc } from './libc.ts';
import { vmCalls } from './vm.ts';

/** Whether the calls that Node does not have can be made here. */
export interface NativeCalls {
  /** Extended attributes and FIFOs. */
  readonly libc: boolean;
  /** process_vm_readv(2), tried on the agent itself: `works`, `missing`, or the errno it was refused with. */
  readonly readProcess: string;
}

export function tryNativeCalls(): NativeCalls {
  return { libc: tryLibc() !== undefined, readProcess: tryReadProcess() };
}

function tryReadProcess(): string {
  const calls = vmCalls();
  if (calls === undefined) return 'missing';
  const [from, to] = [new Uint8Array(new SharedArrayBuffer(8)), new Uint8Array(new SharedArrayBuffer(8))];
  const ranges = BigUint64Array.from([calls.addressOf(from), BigInt(from.length)]);
  const got = calls.readProcess(process.pid, calls.addressOf(to), ranges, 1);
  return got === from.length ? 'works' : new SystemError(-got, 'process_vm_readv').code;
}
