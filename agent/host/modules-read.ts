import { readdirSync } from 'node:fs';
import { asHostPath } from '../runtime/runtime.ts';
import { type Host, reach } from './host.ts';
import { type FileReading, KIB, readBounded } from './procfs.ts';

/** What sysfs says of one module: /sys/module/NAME, Documentation/ABI/testing/sysfs-module. */
export interface ModuleReading {
  readonly name: string;
  /** By name: those that there are. Only modules that were loaded have `initstate`. */
  readonly files: Readonly<Record<string, FileReading>>;
  readonly parameters: Readonly<Record<string, FileReading>>;
  readonly holders: readonly string[];
  /** Something was more than is taken. */
  readonly truncated: boolean;
}

const FILES = ['initstate', 'refcnt', 'coresize', 'initsize', 'taint', 'srcversion', 'version'] as const;
/** A page is all that sysfs gives. */
const VALUE_MAX_BYTES = 4 * KIB;
/** The richest drivers have some 100. */
const PARAMETERS_MAX = 256;
const HOLDERS_MAX = 256;

export function readModule(host: Host, name: string): ModuleReading {
  const folder = reach(host, asHostPath(`/sys/module/${name}`));
  const files: Record<string, FileReading> = {};
  for (const file of FILES) {
    const reading = readBounded(`${folder}/${file}`, VALUE_MAX_BYTES);
    if (reading.kind === 'read' || reading.errno !== 'ENOENT') files[file] = reading;
  }
  const names = list(`${folder}/parameters`);
  const parameters: Record<string, FileReading> = {};
  for (const parameter of names.slice(0, PARAMETERS_MAX))
    parameters[parameter] = readBounded(`${folder}/parameters/${parameter}`, VALUE_MAX_BYTES);
  const holders = list(`${folder}/holders`);
  const truncated = names.length > PARAMETERS_MAX || holders.length > HOLDERS_MAX;
  return { name, files, parameters, holders: holders.slice(0, HOLDERS_MAX), truncated };
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    // Without parameters there is no such folder.
    return [];
  }
}
