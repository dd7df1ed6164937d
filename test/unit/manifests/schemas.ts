import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { type KubernetesObject, nameOf } from '../../lab/manifests.ts';

/**
 * Two judges made by others of the Kubernetes API's own definitions (`kubernetes-models` 5 has those of a Kubernetes with resource.k8s.io/v1, which came with 1.34; packages beside it have CRDs): the JSON
 * schemas as validators, which find wrong types, values and missing keys, and the same as TypeScript's types, which find keys that
 * the API does not know: those schemas leave objects open.
 */

const REPOSITORY = path.resolve(import.meta.dirname, '../../..');

/** The packages that know a group of the API, other than Kubernetes' own. */
const PACKAGES: Readonly<Record<string, string>> = {
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
  'cert-manager.io': '@kubernetes-models/cert-manager',
};

/** Where the class of an object is: `kubernetes-models/apps/v1/Deployment`. */
function moduleOf({ apiVersion, kind }: KubernetesObject): string {
  const [group = ''] = apiVersion.split('/');
  return `${PACKAGES[group] ?? 'kubernetes-models'}/${apiVersion}/${kind}`;
}

interface Model {
  validate(): void;
}
type ModelClass = new (data: KubernetesObject) => Model;

const isClass = (value: unknown): value is ModelClass => typeof value === 'function';

/** What the schemas say against an object; empty when nothing. */
export async function schemaFaults(one: KubernetesObject): Promise<string[]> {
  const loaded: Readonly<Record<string, unknown>> = await import(moduleOf(one));
  const Model = loaded[one.kind];
  if (!isClass(Model)) return [`${nameOf(one)}: ${moduleOf(one)} has no ${one.kind}`];
  try {
    new Model(one).validate();
    return [];
  } catch (error) {
    return [`${nameOf(one)}: ${error instanceof Error ? error.message : String(error)}`];
  }
}

/** What the compiler says against objects that are written as literals of their types; empty when nothing. */
export async function typeFaults(objects: readonly KubernetesObject[]): Promise<string[]> {
  const cache = path.join(REPOSITORY, 'node_modules/.cache');
  await mkdir(cache, { recursive: true });
  // Below the repository, where the packages are found.
  const folder = await mkdtemp(path.join(cache, 'manifests-'));
  try {
    const lines = objects.map((one, index) => {
      const type = `import('${moduleOf(one)}').I${one.kind}`;
      return `export const o${index}: ${type} = ${JSON.stringify(one)}; // ${nameOf(one)}`;
    });
    await writeFile(path.join(folder, 'objects.ts'), lines.join('\n'));
    await writeFile(
      path.join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          strict: true,
          noEmit: true,
          module: 'nodenext',
          target: 'esnext',
          skipLibCheck: true,
          types: [],
        },
        files: ['objects.ts'],
      }),
    );
    const compiler = path.join(REPOSITORY, 'node_modules/typescript/bin/tsc');
    await promisify(execFile)(process.execPath, [compiler, '--pretty', 'false', '-p', folder], { encoding: 'utf8' });
    return [];
  } catch (error) {
    const stdout = error instanceof Error && 'stdout' in error ? String(error.stdout) : '';
    if (stdout === '') throw error;
    return stdout
      .split('\n')
      .filter((line) => line.includes('error TS'))
      .map((line) => {
        const number = Number(/objects\.ts\((\d+),/.exec(line)?.[1] ?? 0);
        const one = objects[number - 1];
        return `${one === undefined ? 'objects' : nameOf(one)}: ${line.replace(/^.*?error /, '')}`;
      });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
