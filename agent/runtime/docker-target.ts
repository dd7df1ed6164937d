/** Everything Docker knows about one container. What cannot be learned becomes a note; only the container itself must be there. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { ExhibitError, explain, isErrno, isExhibitError } from '../../evidence/error.ts';
import type { Cgroup } from '../host/cgroup.ts';
import { type Host, procPath, reach } from '../host/host.ts';
import { readTail } from '../host/tail.ts';
import type { CallLimits } from './call.ts';
import type { ContainerdClient } from './containerd-client.ts';
import type { DockerClient } from './docker-client.ts';
import { dockerImage } from './docker-image.ts';
import {
  type DockerFolders,
  type Inspected,
  mountPointOf,
  mountsOf,
  overlayAt,
  parseInfo,
  parseInspected,
  rootfsOfDriver,
} from './docker-inspect.ts';
import { LOG_LINES, logLines, logNotes, logOf } from './docker-logs.ts';
import { jsonDocument, ownCgroup } from './inspect.ts';
import { DOCKER_NAMESPACE } from './pause/docker.ts';
import {
  asHostPath,
  asPid,
  type ContainerSummary,
  type HostPath,
  type OverlayRootfs,
  type SpecDocument,
  type Target,
} from './runtime.ts';
import { jsonOf, type RootfsFinding, rootfsOf, specMounts } from './snapshot.ts';

/** OCI specs and image configs are tens of KiB. */
const DOCUMENT_BYTES = 8 * 1024 * 1024;

/** dockerd's own containerd, then the node's: where a container's bundle is. /var/run is a link to /run everywhere. */
const BUNDLES = ['/run/docker/containerd/daemon', '/run/containerd'].map(
  (state) => `${state}/io.containerd.runtime.v2.task/${DOCKER_NAMESPACE}`,
);

interface Inquiry {
  readonly client: DockerClient;
  readonly host: Host;
  readonly limits: CallLimits;
  readonly inspected: Inspected;
  readonly notes: string[];
}

/**
 * Without its processes and without a way to stop it. Fails with `target-not-running` where there is no process, unless `kept`
 * says that what Docker keeps of a container is enough.
 */
export async function describeDocker(
  client: DockerClient,
  host: Host,
  summary: ContainerSummary,
  signal: AbortSignal,
  containerd?: ContainerdClient,
  kept = false,
): Promise<{ target: Target; cgroup: Cgroup | undefined }> {
  const limits = { signal };
  const { id, name, pod, labels } = summary;
  const bytes = await client.inspect(id, limits);
  const inspected = bytes === undefined ? undefined : parseInspected(bytes);
  if (bytes === undefined || inspected === undefined || (inspected.State.Pid === 0 && !kept))
    throw new ExhibitError(
      'target-not-running',
      `container ${id.slice(0, 12)} has no running process: it has just ended`,
    );
  const initPid = asPid(inspected.State.Pid);
  const inquiry: Inquiry = { client, host, limits, inspected, notes: [] };
  const info = await document(inquiry, 'docker-info.json', client.info(limits));
  const folders = info === undefined ? undefined : parseInfo(info.bytes);
  const cgroup = initPid === 0 ? undefined : await ownCgroup(host, initPid, id);
  if (cgroup === undefined && initPid !== 0)
    inquiry.notes.push("no cgroup is named after the container: only Docker's list says which processes it has");
  const [told, spec, image, rootfs, log] = await Promise.all([
    toldDocuments(inquiry),
    ociSpec(inquiry),
    folders === undefined ? undefined : imageConfig(inquiry, folders),
    folders === undefined ? undefined : findRootfs(inquiry, folders, containerd),
    folders === undefined ? undefined : findLog(inquiry, folders),
  ]);
  const documents = [
    { name: 'docker-inspect.json', bytes },
    ...[spec, image, ...told, log?.document, info].filter((one) => one !== undefined),
  ];
  const asked = { host, signal, inspected, rootfs, documents, containerd };
  const base = folders === undefined ? undefined : await dockerImage({ ...asked, folders });
  const config = base?.config && { name: 'image-config.json', bytes: base.config };
  if (image === undefined && config !== undefined) documents.push(config);
  if (image === undefined && config === undefined) inquiry.notes.push(CONFIG_RETOLD);
  const target: Target = {
    record: {
      runtime: 'docker',
      kind: 'container',
      id,
      name,
      ...(pod === undefined ? {} : { pod }),
      labels: Object.fromEntries(labels),
      image: { name: inspected.Config.Image || summary.image, id: inspected.Image },
      initPid,
      pids: [initPid],
      ...(cgroup === undefined ? {} : { cgroup: cgroup.path }),
    },
    createdAt: inspected.Created,
    ...(inspected.HostConfig?.Runtime ? { ociRuntime: inspected.HostConfig.Runtime } : {}),
    freeze: undefined,
    rootfs,
    image: base?.image,
    mounts: (spec && specMounts(jsonOf(spec.bytes))) ?? mountsOf(inspected),
    logPath: log?.file,
    documents: [...documents, ...(base?.documents ?? [])],
    notes: inquiry.notes,
    companions: [],
  };
  return { target, cgroup };
}

/** An answer as a document; a note in its place when it could not be had. A cancelled call passes through. */
async function document(
  { notes }: Inquiry,
  name: string,
  asked: Promise<Uint8Array | undefined>,
): Promise<SpecDocument | undefined> {
  try {
    const bytes = await asked;
    if (bytes === undefined) notes.push(`${name} is not known: Docker has it no more`);
    return bytes === undefined ? undefined : { name, bytes };
  } catch (error) {
    if (isExhibitError(error, 'cancelled')) throw error;
    notes.push(`${name} is not known: ${explain(error)}`);
    return undefined;
  }
}

function toldDocuments(inquiry: Inquiry): Promise<(SpecDocument | undefined)[]> {
  const { client, limits, inspected } = inquiry;
  const { Id, Image, State } = inspected;
  return Promise.all([
    State.Pid === 0 ? undefined : document(inquiry, 'docker-top.json', client.top(Id, '-ef', limits)),
    document(inquiry, 'docker-diff.json', client.changes(Id, limits)),
    document(inquiry, 'docker-image.json', client.image(Image, limits)),
    document(inquiry, 'docker-history.json', client.history(Image, limits)),
    document(inquiry, 'docker-version.json', client.version(limits)),
  ]);
}

/** A small regular file of the node; undefined when there is none. */
async function smallFile(host: Host, file: HostPath): Promise<Buffer | undefined> {
  try {
    return await readTail(host, file, DOCUMENT_BYTES);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** The spec that runc was given: Docker's API does not tell it, containerd keeps it beside the container's shim. */
async function ociSpec({ host, inspected, notes }: Inquiry): Promise<SpecDocument | undefined> {
  for (const bundle of BUNDLES) {
    const file = asHostPath(`${bundle}/${inspected.Id}/config.json`);
    const bytes = await smallFile(host, file).catch(() => undefined);
    if (bytes !== undefined && jsonOf(bytes) !== undefined) return { name: 'oci-spec.json', bytes };
  }
  notes.push('oci-spec.json is not known: the bundle of the container was found in no folder of containerd');
  return undefined;
}

/** The image's config as it was pulled or built: its SHA-256 is the image's id. Docker's API only retells it. */
async function imageConfig({ host, inspected }: Inquiry, { root }: DockerFolders) {
  const [, digest] = /^sha256:([0-9a-f]{64})$/.exec(inspected.Image) ?? [];
  const file = asHostPath(`${root}/image/${inspected.Driver}/imagedb/content/sha256/${digest}`);
  const bytes = digest === undefined ? undefined : await smallFile(host, file).catch(() => undefined);
  if (bytes !== undefined && createHash('sha256').update(bytes).digest('hex') === digest)
    return { name: 'image-config.json', bytes };
  return undefined;
}

const CONFIG_RETOLD =
  "the image's config is docker-image.json, Docker's retelling: the config itself was found on the node neither in Docker's folder nor in containerd";

async function findRootfs(
  inquiry: Inquiry,
  folders: DockerFolders,
  containerd: ContainerdClient | undefined,
): Promise<OverlayRootfs | undefined> {
  const { inspected, notes } = inquiry;
  const told = rootfsOfDriver(inspected, folders);
  const finding = told === 'ask-mounts' ? await unlistedRootfs(inquiry, folders, containerd) : told;
  if ('note' in finding) notes.push(finding.note);
  return 'rootfs' in finding ? finding.rootfs : undefined;
}

/** Of one that runs by what is mounted; what has ended is mounted nowhere, and containerd still knows its snapshot by its id. */
async function unlistedRootfs(
  { host, inspected, limits }: Inquiry,
  folders: DockerFolders,
  containerd: ContainerdClient | undefined,
): Promise<RootfsFinding> {
  if (inspected.State.Pid !== 0 || containerd === undefined) return mountedRootfs(host, inspected, folders);
  try {
    return rootfsOf(await containerd.mounts(inspected.Driver, inspected.Id, limits));
  } catch (error) {
    if (isExhibitError(error, 'cancelled')) throw error;
    return { note: `the layers of the driver ${inspected.Driver} are not known: ${explain(error)}` };
  }
}

/** By the node's own mounts, which the container cannot change; else by the container's. */
async function mountedRootfs(host: Host, inspected: Inspected, folders: DockerFolders) {
  const tables = [
    { pid: 1, mountPoint: mountPointOf(inspected, folders) },
    { pid: inspected.State.Pid, mountPoint: '/' },
  ];
  for (const { pid, mountPoint } of tables) {
    const table = await readFile(procPath(host, pid, 'mountinfo'), 'latin1').catch(() => '');
    const mount = overlayAt(table, mountPoint);
    if (mount !== undefined) return rootfsOf([mount]);
  }
  return { note: `the layers of the driver ${inspected.Driver} are not known: no overlay of the container is mounted` };
}

async function findLog(inquiry: Inquiry, folders: DockerFolders) {
  const { client, host, limits, inspected, notes } = inquiry;
  const finding = logOf(inspected, folders);
  const there = finding.file !== undefined && (finding.certain || (await exists(reach(host, finding.file))));
  const answer = finding.ask
    ? client
        .logs(inspected.Id, LOG_LINES, limits)
        .then((logs) => jsonDocument('docker-logs.json', logLines(logs)).bytes)
    : undefined;
  const lines = answer === undefined ? undefined : await document(inquiry, 'docker-logs.json', answer);
  notes.push(...logNotes(finding, there, lines !== undefined));
  return { file: there ? finding.file : undefined, document: lines };
}

const exists = (file: string): Promise<boolean> =>
  access(file, constants.F_OK).then(
    () => true,
    () => false,
  );
