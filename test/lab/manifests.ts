/** What `kubectl kustomize` makes of the manifests, and the objects in it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseAllDocuments, stringify } from 'yaml';
import { z } from 'zod';
import { findKubectl } from './kubectl.ts';

export const MANIFESTS = path.resolve(import.meta.dirname, '../../manifests');

const foldersOf = (folder: string): string[] =>
  readdirSync(path.join(MANIFESTS, folder)).map((name) => `${folder}/${name}`);

/** What is installed, each by its folder below `manifests/`. */
export const OVERLAYS: readonly string[] = ['base', ...foldersOf('overlays')];

/** What can be laid over the base, likewise. */
export const COMPONENTS: readonly string[] = foldersOf('components');

const objectSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string(), namespace: z.string().optional() }),
});

/** An object of the Kubernetes API, as it is applied. */
export type KubernetesObject = z.output<typeof objectSchema>;

/** Rendering takes 0.2 s of CPU each; a loaded machine gets the benefit of the doubt. */
export const RENDER_TIMEOUT_MS = 90_000;

/** Components, and the field `labels` without selectors, came with kustomize 4 in kubectl 1.21 and 1.22. */
const FIRST_MINOR = 22;

/** Why nothing can be rendered here, in words for a skipped test; undefined when it can. */
export function renderObstacle(): string | undefined {
  const kubectl = findKubectl();
  const minor = Number(/^v1\.(\d+)/.exec(kubectl?.version ?? '')?.[1] ?? 0);
  return minor >= FIRST_MINOR
    ? undefined
    : `needs kubectl 1.${FIRST_MINOR} or newer: run node test/lab/setup.mjs tools as root`;
}

const rendered = new Map<string, readonly KubernetesObject[]>();

/** Rendered once a process. @param folder below `manifests/`, or an absolute one */
export function render(folder: string): readonly KubernetesObject[] {
  const known = rendered.get(folder) ?? kustomize(folder);
  rendered.set(folder, known);
  return known;
}

/**
 * An overlay of nothing but a base and components, in a folder of its own, as an operator would write one.
 * @param base a folder below `manifests/`
 */
export function renderWith(base: string, components: readonly string[]): readonly KubernetesObject[] {
  using overlay = writeOverlay({ resources: [base], components });
  return kustomize(overlay.folder);
}

function kustomize(folder: string): KubernetesObject[] {
  const kubectl = path.join(findKubectl()?.folder ?? '', 'kubectl');
  const text = execFileSync(kubectl, ['kustomize', path.resolve(MANIFESTS, folder)], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    // Nobody's kubeconfig is read.
    env: { HOME: '/nonexistent', PATH: process.env.PATH ?? '' },
  });
  return parseAllDocuments(text).map((document) => {
    if (document.errors.length > 0) throw document.errors[0];
    return objectSchema.parse(document.toJS());
  });
}

/** `Deployment exhibit-controller`. */
export const nameOf = ({ kind, metadata }: KubernetesObject): string => `${kind} ${metadata.name}`;

/**
 * An overlay as an operator writes one: a folder with a kustomization, which goes away with it.
 * @param kustomization with paths below `manifests/` in `resources` and `components`
 * @param files beside it, by name
 */
export function writeOverlay(
  kustomization: { resources: readonly string[]; components?: readonly string[] } & Record<string, unknown>,
  files: Readonly<Record<string, string>> = {},
): { folder: string } & Disposable {
  const cache = path.resolve(MANIFESTS, '../node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  // kustomize takes relative paths, and follows no links to them.
  const folder = mkdtempSync(path.join(cache, 'overlay-'));
  const from = (name: string) => path.relative(folder, path.join(MANIFESTS, name));
  const { resources, components = [] } = kustomization;
  const whole = { ...kustomization, resources: resources.map(from), components: components.map(from) };
  for (const [name, text] of Object.entries({ ...files, 'kustomization.yaml': stringify(whole) }))
    writeFileSync(path.join(folder, name), text);
  return { folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}
