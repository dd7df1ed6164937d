/**
 * Reads the kernel's log for an agent in a container, whose control group forbids devices that containers have no use for:
 * this process leaves it first. Arguments: `read` or `try`, and where the node's root is. Prints a record a line in base64, and last
 * a JSON object: `{"errno": NAME}` where it was refused.
 */
import { errnoOf } from '../../evidence/error.ts';
import { leaveCgroups } from './cgroup.ts';
import { readKernelLog, tryKernelLog } from './kmsg.ts';
import type { KernelLogEnd } from './kmsg-outside.ts';

const [what, hostRoot = ''] = process.argv.slice(2);
const host = { procRoot: '/proc', hostRoot };

await leaveCgroups();
process.stdout.write(`${JSON.stringify(what === 'try' ? tried() : read())}\n`);

function tried(): KernelLogEnd {
  const errno = tryKernelLog(host);
  return errno === undefined ? { bytesRead: 0, overwritten: 0, cut: false } : { errno };
}

function read(): KernelLogEnd {
  try {
    const { records, ...rest } = readKernelLog(host);
    for (const record of records) process.stdout.write(`${record.toString('base64')}\n`);
    return rest;
  } catch (error) {
    return { errno: errnoOf(error) ?? 'EIO' };
  }
}
