import { readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * `full avg10` of `/proc/pressure/memory` (Documentation/accounting/psi.rst): in how many of a hundred moments of the last ten
 * seconds everything that had work waited for memory. Undefined where the kernel does not count it.
 */
export async function memoryPressurePercent(procRoot: string): Promise<number | undefined> {
  const text = await readFile(path.join(procRoot, 'pressure', 'memory'), 'latin1').catch(() => '');
  const found = /^full avg10=(\d{1,3}\.\d{1,4}) /m.exec(text);
  return found === null ? undefined : Number(found[1]);
}
