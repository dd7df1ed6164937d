/**
 * Things that the whole machine has and tests borrow: swap space, huge pages, the number of mappings a process may have.
 * Each is given back on disposal; each is undefined where the machine does not give it.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const succeeds = (name: string, ...argv: string[]): boolean => spawnSync(name, argv).status === 0;

/** A swap file in the temporary folder, in use. */
export function lendSwap(mebibytes: number): Disposable | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'exhibit-swap-'));
  const file = join(folder, 'swap');
  const remove = () => rmSync(folder, { recursive: true, force: true });
  writeFileSync(file, Buffer.alloc(mebibytes << 20), { mode: 0o600 });
  if (!succeeds('mkswap', file) || !succeeds('swapon', file)) {
    remove();
    return undefined;
  }
  const dispose = (): void => {
    if (!succeeds('swapoff', file)) throw new Error(`${file} is still in use as swap: run swapoff and remove it`);
    remove();
  };
  return { [Symbol.dispose]: dispose };
}

/** Raises a number below /proc/sys to `wanted`, unless it is as high. */
function lendSysctl(file: string, wanted: (before: number) => number): Disposable | undefined {
  try {
    const before = readFileSync(file, 'utf8');
    const number = wanted(Number(before));
    if (number > Number(before)) writeFileSync(file, String(number));
    if (Number(readFileSync(file, 'utf8')) >= number) {
      return { [Symbol.dispose]: () => writeFileSync(file, before) };
    }
    writeFileSync(file, before);
  } catch {
    // The kernel was built without it, or /proc/sys is read-only: there is nothing to borrow.
  }
  return undefined;
}

/** Huge pages of the default size beyond those there are; fewer may be free when memory is in pieces. */
export const lendHugePages = (count: number): Disposable | undefined =>
  lendSysctl('/proc/sys/vm/nr_hugepages', (before) => before + count);

/** Keeps the log of the kernel from whoever lacks CAP_SYSLOG. */
export const lendKernelLogLock = (): Disposable | undefined => lendSysctl('/proc/sys/kernel/dmesg_restrict', () => 1);

/** Lets one process have `count` mappings. */
export const lendMappings = (count: number): Disposable | undefined =>
  lendSysctl('/proc/sys/vm/max_map_count', () => count);
