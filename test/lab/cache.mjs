// Where the lab keeps what it built, shared by setup.mjs (Node >= 18, nothing installed) and the TypeScript of the lab.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { arch, homedir } from 'node:os';
import { join } from 'node:path';

/** The Node that runs the project; package.json asks for >= 24. */
export const NODE_VERSION = '24.21.0';

/** Debian 14: the suite with containerd 2.1, CRIU 4.2 and Ceph 20.2. */
export const DEBIAN_SUITE = 'forky';

/** Debian 12: the suite of the old node's containerd 1.6 and runc 1.1; its criu is too old for today's kernels. */
export const OLD_SUITE = 'bookworm';

/** Counts changes of the recipe in setup.mjs that the package lists do not show. */
const RECIPE = 1;

/** The same for the root of the memory tests. */
const ZOO_RECIPE = 1;

/** What a Kubernetes node of the lab consists of. */
export const NODE_PACKAGES = [
  'containerd',
  'runc',
  'criu',
  'crun',
  'checkpointctl',
  'python3-pycriu',
  'iproute2',
  'iptables',
  'containernetworking-plugins',
  'procps',
  'busybox-static',
  'ca-certificates',
];

/** What a copy of the node's root gets from the old suite; CRIU stays as it is. */
export const OLD_PACKAGES = ['containerd', 'runc'];

/** Debian 13: the base of the image that puts criu on nodes (manifests/components/criu-host/Dockerfile). */
export const CRIU_BASE_SUITE = 'trixie';

/** What is added to a copy of the node's root for S3: Ceph's gateway, and moto with what its server needs. */
export const S3_PACKAGES = [
  'radosgw',
  'python3-moto',
  'python3-flask-cors',
  'python3-openapi-spec-validator',
  'python3-docker',
];

/** What is added to a copy of the node's root for Docker: dockerd 28.5 and its command line. */
export const DOCKER_PACKAGES = ['docker.io', 'docker-cli'];

/** What judges journals and audit logs: journalctl, systemd-journal-remote, ausearch. Unpacked, never installed: they have services. */
export const LOG_JUDGE_PACKAGES = ['systemd', 'systemd-journal-remote', 'auditd'];

/** The shared store of the controller. Unpacked, never installed: the package would start a server. */
export const POSTGRES_PACKAGES = ['postgresql'];

/** What Google's distroless image of Node holds of Debian, where it comes from this machine's own suite; its gcc-*-base is found by libgcc-s1. */
export const IMAGE_PACKAGES = [
  'base-files',
  'netbase',
  'tzdata',
  'ca-certificates',
  'libc6',
  'libgcc-s1',
  'libstdc++6',
];

/** The npm of the lab's build image. */
export const NPM_VERSION = '11.19.1';

/** kubectl of DEBIAN_SUITE, which needs nothing but a C library; unpacked, so that the machine's own programs stay as they are. */
export const KUBECTL_PACKAGES = ['kubectl'];

/** promtool, which judges metrics and alerts. Unpacked, never installed: the package would start a server. */
export const PROMTOOL_PACKAGES = ['prometheus'];

/** What real programs of the memory tests consist of; they are only unpacked, so nothing of theirs is started or configured. */
export const ZOO_PACKAGES = ['openjdk-25-jre-headless', 'python3', 'nginx', 'redis-server'];

/** What compiles the programs in `programs/`; gone when that is done. */
export const ZOO_COMPILERS = ['golang-go', 'ecj'];

/** Programs that are compiled at set-up; the others are quick, and compiled or read when a test starts. */
export const ZOO_SOURCES = ['zoo.go', 'Zoo.java'];

/** @param {string} name */
export const zooSource = (name) => new URL(`programs/${name}`, import.meta.url);

/** @param {...unknown} parts */
const digest = (...parts) => createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 12);

/** `~/.cache/exhibit`, or below XDG_CACHE_HOME. @param {NodeJS.ProcessEnv} [env] */
export const cacheFolder = (env = process.env) => join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'exhibit');

/** Prefix folder of npm's `node` package. @param {NodeJS.ProcessEnv} [env] */
export const nodeFolder = (env = process.env) => join(cacheFolder(env), `node-${NODE_VERSION}`);

/** Root file system of the containerd node; never written to. @param {NodeJS.ProcessEnv} [env] */
export const labRoot = (env = process.env) =>
  env.EXHIBIT_LAB_ROOT || join(cacheFolder(env), `lab-root-${digest(RECIPE, DEBIAN_SUITE, arch(), NODE_PACKAGES)}`);

/** Root file system of a node with containerd 1.6; never written to. @param {NodeJS.ProcessEnv} [env] */
export const oldRoot = (env = process.env) =>
  env.EXHIBIT_OLD_ROOT ||
  join(
    cacheFolder(env),
    `lab-old-root-${digest(RECIPE, DEBIAN_SUITE, arch(), NODE_PACKAGES, OLD_SUITE, OLD_PACKAGES)}`,
  );

/** Root file system with the S3 servers; never written to. @param {NodeJS.ProcessEnv} [env] */
export const s3Root = (env = process.env) =>
  env.EXHIBIT_S3_ROOT ||
  join(cacheFolder(env), `lab-s3-root-${digest(RECIPE, DEBIAN_SUITE, arch(), NODE_PACKAGES, S3_PACKAGES)}`);

/** Root file system of a Docker node; never written to. @param {NodeJS.ProcessEnv} [env] */
export const dockerRoot = (env = process.env) =>
  env.EXHIBIT_DOCKER_ROOT ||
  join(cacheFolder(env), `lab-docker-root-${digest(RECIPE, DEBIAN_SUITE, arch(), NODE_PACKAGES, DOCKER_PACKAGES)}`);

/** Root file system of a containerd node with Java, Go, Python, Node, nginx and redis programs; never written to. @param {NodeJS.ProcessEnv} [env] */
export function zooRoot(env = process.env) {
  const sources = ZOO_SOURCES.map((name) => readFileSync(zooSource(name), 'utf8'));
  const recipe = [RECIPE, ZOO_RECIPE, DEBIAN_SUITE, arch(), NODE_PACKAGES, ZOO_PACKAGES, ZOO_COMPILERS, sources];
  return env.EXHIBIT_ZOO_ROOT || join(cacheFolder(env), `lab-zoo-root-${digest(...recipe)}`);
}

/** What is unpacked of LOG_JUDGE_PACKAGES, of this machine's own suite. @param {NodeJS.ProcessEnv} [env] */
export const logJudges = (env = process.env) =>
  env.EXHIBIT_LOG_JUDGES || join(cacheFolder(env), `lab-log-judges-${digest(RECIPE, arch(), LOG_JUDGE_PACKAGES)}`);

/** What is unpacked of POSTGRES_PACKAGES, of this machine's own suite; not there where the machine has PostgreSQL. @param {NodeJS.ProcessEnv} [env] */
export const postgresFolder = (env = process.env) =>
  env.EXHIBIT_POSTGRES || join(cacheFolder(env), `lab-postgres-${digest(RECIPE, arch(), POSTGRES_PACKAGES)}`);

/** What is unpacked of KUBECTL_PACKAGES; not there where the machine has one that is new enough. @param {NodeJS.ProcessEnv} [env] */
export const kubectlFolder = (env = process.env) =>
  env.EXHIBIT_KUBECTL ||
  join(cacheFolder(env), `lab-kubectl-${digest(RECIPE, DEBIAN_SUITE, arch(), KUBECTL_PACKAGES)}`);

/** What is unpacked of PROMTOOL_PACKAGES, of this machine's own suite; not there where the machine has promtool. @param {NodeJS.ProcessEnv} [env] */
export const promtoolFolder = (env = process.env) =>
  env.EXHIBIT_PROMTOOL || join(cacheFolder(env), `lab-promtool-${digest(RECIPE, arch(), PROMTOOL_PACKAGES)}`);

/** Stands in for the base of the image that puts criu on nodes; never written to. @param {NodeJS.ProcessEnv} [env] */
export const criuBase = (env = process.env) =>
  env.EXHIBIT_CRIU_BASE || join(cacheFolder(env), `lab-criu-base-${digest(RECIPE, CRIU_BASE_SUITE, arch())}`);

/** What `docker save` wrote of the image that puts criu on nodes, by the files that it is built of. @param {NodeJS.ProcessEnv} [env] */
export function criuImage(env = process.env) {
  const folder = new URL('../../manifests/components/criu-host/', import.meta.url);
  const files = readdirSync(folder)
    .filter((name) => !name.endsWith('.yaml'))
    .sort();
  const texts = files.map((name) => [name, readFileSync(new URL(name, folder), 'utf8')]);
  return join(cacheFolder(env), `exhibit-criu-image-${digest(criuBase(env), texts)}.tar`);
}

/** Counts changes of how setup.mjs makes the parts of the base images. */
const IMAGE_RECIPE = 1;

/**
 * What stands in for the base images of the Dockerfile, and for the registry of npm: `runtime` and `npm` are folders of files, `cache`
 * holds the packages of the lock file. @param {NodeJS.ProcessEnv} [env]
 */
export function imageParts(env = process.env) {
  const lock = createHash('sha256')
    .update(readFileSync(new URL('../../package-lock.json', import.meta.url)))
    .digest('hex');
  const recipe = [IMAGE_RECIPE, arch(), IMAGE_PACKAGES, NPM_VERSION, lock];
  return env.EXHIBIT_IMAGE_PARTS || join(cacheFolder(env), `lab-image-parts-${digest(...recipe)}`);
}
