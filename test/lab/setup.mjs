// First thing that `npm run demo|test|lab|bench` runs: brings a clean clone on a fresh Debian machine to where the real
// programs start. Plain JavaScript for Node >= 18, with nothing installed but node and npm. Says nothing when all is there.
//   node test/lab/setup.mjs <demo|test|lab|bench|tools> [arguments of that program...]
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  CRIU_BASE_SUITE,
  cacheFolder,
  criuBase,
  criuImage,
  DEBIAN_SUITE,
  DOCKER_PACKAGES,
  dockerRoot,
  IMAGE_PACKAGES,
  imageParts,
  KUBECTL_PACKAGES,
  kubectlFolder,
  LOG_JUDGE_PACKAGES,
  labRoot,
  logJudges,
  NODE_PACKAGES,
  NODE_VERSION,
  NPM_VERSION,
  nodeFolder,
  OLD_PACKAGES,
  OLD_SUITE,
  oldRoot,
  POSTGRES_PACKAGES,
  PROMTOOL_PACKAGES,
  postgresFolder,
  promtoolFolder,
  S3_PACKAGES,
  s3Root,
  ZOO_COMPILERS,
  ZOO_PACKAGES,
  ZOO_SOURCES,
  zooRoot,
  zooSource,
} from './cache.mjs';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

/**
 * What each command runs, and whether it needs the S3 servers, the old node, Docker and the programs of the memory tests.
 * `tools` only installs.
 */
const COMMANDS = {
  demo: { program: 'demo/main.ts', s3: false, old: false, docker: false, zoo: false },
  test: { program: 'test/lab/run-tests.ts', s3: true, old: true, docker: true, zoo: true },
  lab: { program: 'test/lab/main.ts', s3: true, old: true, docker: true, zoo: false },
  bench: { program: 'bench/main.ts', s3: true, old: false, docker: true, zoo: false },
  tools: { program: undefined, s3: true, old: true, docker: true, zoo: true },
};

/** Debian packages of the machine itself, by a program that each brings. */
const HOST_PACKAGES = {
  debootstrap: 'debootstrap',
  gdb: 'gdb',
  zstd: 'zstd',
  curl: 'curl',
  openssl: 'openssl',
  age: 'age',
  bsdtar: 'libarchive-tools',
  python3: 'python3',
  ip: 'iproute2',
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  flock: 'util-linux',
  xz: 'xz-utils',
  mactime: 'sleuthkit',
  yara: 'yara',
  setfattr: 'attr',
  readelf: 'binutils',
  nft: 'nftables',
  'iptables-legacy': 'iptables',
  conntrack: 'conntrack',
  bpftool: 'bpftool',
  lsof: 'lsof',
  ps: 'procps',
  prlimit: 'util-linux',
  getpcaps: 'libcap2-bin',
};

/** What compiles the C programs that tests capture; libc6-dev is known by its first header. */
const COMPILER_PACKAGES = { gcc: 'gcc', '/usr/include/stdio.h': 'libc6-dev' };

/** npm would try an unreachable registry for minutes; the rest is talk. */
const QUICK = [
  '--fetch-retries=2',
  '--fetch-retry-mintimeout=1000',
  '--fetch-retry-maxtimeout=4000',
  '--no-audit',
  '--no-fund',
];

/** Debian's own mirror, after the one that this machine already uses. */
const DEFAULT_MIRROR = 'http://deb.debian.org/debian';

/** How long to wait for another set-up of the same machine before saying so is all one can do. */
const LOCK_TIMEOUT_S = 1800;

/** A sentence for the user; anything else that is thrown is a fault of this program. */
class SetupError extends Error {}

/** Packages are unpacked into folders that are renamed when whole: what this run has begun and not finished. @type {Set<string>} */
const unfinished = new Set();

/** Does a step and tells how long it took; on a terminal the line is there while it runs. @template T @param {string} what @param {() => T} work */
function step(what, work) {
  const begin = Date.now();
  process.stderr.write(`setup: ${what} ... `);
  try {
    const result = work();
    process.stderr.write(`${((Date.now() - begin) / 1000).toFixed(1)} s\n`);
    return result;
  } catch (error) {
    process.stderr.write('failed\n');
    throw error;
  }
}

/** Runs a program to its end. Its output is shown only where it fails. @param {string} program @param {string[]} argv @param {object} [options] */
function run(program, argv, options = {}) {
  const result = spawnSync(program, argv, {
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 28,
    encoding: 'utf8',
    ...options,
  });
  const text = `${result.stdout ?? ''}\n${result.stderr ?? ''}\n${result.error?.message ?? ''}`.trim();
  return { ok: result.status === 0, text, stdout: result.stdout ?? '' };
}

/** @param {string} text */
const lastLines = (text) => text.split('\n').filter(Boolean).slice(-8).join('\n  ');

/** @param {string} program */
function hasProgram(program) {
  if (program.startsWith('/')) return existsSync(program);
  const folders = `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`.split(delimiter);
  return folders.some((folder) => existsSync(join(folder, program)));
}

/** npm's own words, shortened to what to do about it. @param {string} what @param {string} text */
function npmError(what, text) {
  const network = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ECONNRESET|ENETUNREACH|EHOSTUNREACH|network/i.test(text);
  if (network)
    return new SetupError(
      `cannot reach the npm registry for ${what}: check the network, or \`npm config get registry\`.`,
    );
  return new SetupError(`npm could not install ${what}:\n  ${lastLines(text)}`);
}

function installPackages() {
  const lock = readFileSync(join(PROJECT, 'package-lock.json'));
  const wanted = createHash('sha256').update(lock).digest('hex');
  const stamp = join(PROJECT, 'node_modules', '.exhibit-lock-sha256');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  step('npm packages', () => {
    // Optional packages are the platform's binaries: biome, TypeScript and vitest need theirs.
    const kinds = ['--include=dev', '--include=optional'];
    const clean = run('npm', ['ci', ...QUICK, ...kinds], { cwd: PROJECT });
    if (!clean.ok && /can only install packages when/.test(clean.text)) {
      // A registry that lacks other platforms' binaries makes npm call the lock file out of step; its versions hold.
      const { ok, text } = run('npm', ['install', '--no-save', ...QUICK, ...kinds], { cwd: PROJECT });
      if (!ok) throw npmError("the project's packages", text);
    } else if (!clean.ok) throw npmError("the project's packages", clean.text);
    writeFileSync(stamp, wanted);
  });
}

/** @param {string} prefix */
const nodeBinaries = (prefix) => [
  join(prefix, 'node_modules', 'node', 'bin', 'node'),
  join(prefix, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node'),
];

/** @param {string} prefix */
function workingNode(prefix) {
  return nodeBinaries(prefix).find((path) => existsSync(path) && run(path, ['--version']).ok);
}

/** The Node to run the project with: this one where new enough, else npm's `node` package in the cache. */
function node24() {
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath;
  const folder = nodeFolder();
  return workingNode(folder) ?? step(`Node ${NODE_VERSION}`, () => installNode(folder));
}

/** @param {string} folder */
function installNode(folder) {
  const partial = beginFolder(folder);
  let last = '';
  for (const name of ['node', `node-linux-${process.arch}`]) {
    const argv = ['install', '--prefix', partial, '--no-save', '--ignore-scripts=false', ...QUICK];
    const { ok, text } = run('npm', [...argv, `${name}@${NODE_VERSION}`], { cwd: partial });
    last = text;
    if (ok && workingNode(partial) !== undefined) {
      finishFolder(partial, folder);
      return /** @type {string} */ (workingNode(folder));
    }
  }
  throw npmError(`Node ${NODE_VERSION}`, last);
}

/** An empty folder beside `folder`, which takes its place when it is whole. @param {string} folder */
function beginFolder(folder) {
  const partial = `${folder}.partial-${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  unfinished.add(partial);
  return partial;
}

/** @param {string} partial @param {string} folder */
function finishFolder(partial, folder) {
  rmSync(folder, { recursive: true, force: true });
  renameSync(partial, folder);
  unfinished.delete(partial);
}

function removeUnfinished() {
  for (const path of unfinished) {
    unmountBelow(path);
    rmSync(path, { recursive: true, force: true });
  }
  unfinished.clear();
}

/** What a killed set-up left half-made; called under the lock, so nobody is at work on any of it. */
function removePartial() {
  for (const name of readdirSync(cacheFolder())) {
    if (!name.includes('.partial-')) continue;
    const path = join(cacheFolder(), name);
    unmountBelow(path);
    rmSync(path, { recursive: true, force: true });
  }
}

/** @param {string[]} argv @param {object} [options] */
function apt(argv, options = {}) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return run('apt-get', ['-q', '-y', '-o', 'Acquire::Retries=3', '-o', 'DPkg::Lock::Timeout=300', ...argv], {
    env,
    ...options,
  });
}

/** @param {boolean} withCompiler */
function installHostPackages(withCompiler) {
  const missing = new Set(
    Object.entries({ ...HOST_PACKAGES, ...(withCompiler ? COMPILER_PACKAGES : {}) })
      .filter(([program]) => !hasProgram(program))
      .map(([, name]) => name),
  );
  if (!existsSync('/usr/share/keyrings/debian-archive-keyring.gpg')) missing.add('debian-archive-keyring');
  if (missing.size === 0) return;
  if (!hasProgram('apt-get'))
    throw new SetupError(`this machine has no apt-get; install by hand: ${[...missing].join(' ')}.`);
  step(`Debian packages ${[...missing].join(' ')}`, () => {
    // Update may fail because of an unrelated third-party source: installing is what tells.
    const update = apt(['update']);
    const { ok, text } = apt(['install', '--no-install-recommends', ...missing]);
    if (!ok)
      throw new SetupError(
        `apt-get could not install ${[...missing].join(' ')}:\n  ${lastLines(update.ok ? text : `${update.text}\n${text}`)}`,
      );
  });
}

/** The Debian mirror that this machine's apt uses, then Debian's own. */
function mirrors() {
  const { stdout } = run('apt-get', ['indextargets', '--format', '$(REPO_URI)']);
  const own = stdout.split('\n').map((line) => line.replace(/\/$/, ''));
  return [...new Set([...own.filter((uri) => /^https?:.*\/debian$/.test(uri)), DEFAULT_MIRROR])];
}

/** debootstrap fetches with wget, which knows the environment's proxy and not apt's. */
function proxyEnvironment() {
  const { stdout } = run('apt-config', ['shell', 'proxy', 'Acquire::http::Proxy']);
  const proxy = /proxy='([^']*)'/.exec(stdout)?.[1];
  return { ...process.env, ...(proxy && proxy !== 'DIRECT' ? { http_proxy: proxy } : {}) };
}

/** What only readers of manuals and apt itself need. @param {string} root */
function slim(root) {
  for (const path of [
    'usr/share/doc',
    'usr/share/man',
    'usr/share/locale',
    'var/lib/apt/lists',
    'var/cache/apt',
    'var/cache/debconf',
  ]) {
    rmSync(join(root, path), { recursive: true, force: true });
    mkdirSync(join(root, path), { recursive: true });
  }
}

/** debootstrap leaves /proc mounted when it is killed. @param {string} root */
function unmountBelow(root) {
  for (const path of ['proc', 'sys', 'dev']) run('umount', ['-R', '-l', join(root, path)]);
}

function buildLabRoot() {
  const root = labRoot();
  if (existsSync(root)) return;
  step(`containerd node from Debian ${DEBIAN_SUITE} (about a minute, kept in ${dirname(root)})`, () => {
    const partial = bootstrap(root, DEBIAN_SUITE, [`--include=${NODE_PACKAGES.join(',')}`], 'usr/bin/containerd');
    slim(partial);
    finishFolder(partial, root);
  });
}

/** As the base image is, its apt works in it, and the packages' copyright files are there. */
function buildCriuBase() {
  const root = criuBase();
  if (existsSync(root)) return;
  step(`base of the criu image from Debian ${CRIU_BASE_SUITE} (half a minute, kept in ${dirname(root)})`, () => {
    const partial = bootstrap(root, CRIU_BASE_SUITE, [], 'usr/bin/apt-get');
    for (const path of ['usr/share/man', 'usr/share/locale', 'var/lib/apt/lists', 'var/cache/apt'])
      rmSync(join(partial, path), { recursive: true, force: true });
    finishFolder(partial, root);
  });
}

/** Fetches from the mirror and compiles, so it is done here and not by a test. @param {string} node */
function buildCriuImage(node) {
  buildCriuBase();
  const file = criuImage();
  if (existsSync(file)) return;
  step(`image that puts criu on nodes (a minute or two, kept in ${dirname(file)})`, () => {
    const { ok, text } = run(node, [join(PROJECT, 'test/lab/criu-image.ts')]);
    if (!ok) throw new SetupError(`cannot build it:\n  ${lastLines(text)}`);
  });
}

/**
 * A minimal Debian, beside `root`, by the first mirror that has it. @param {string} root @param {string} suite
 * @param {string[]} options @param {string} proof a file that it must have
 */
function bootstrap(root, suite, options, proof) {
  let last = '';
  for (const mirror of mirrors()) {
    const partial = beginFolder(root);
    // Debian 12's debootstrap has no script named forky; sid's is the same.
    const script = '/usr/share/debootstrap/scripts/sid';
    const argv = ['--variant=minbase', ...options, suite, partial, mirror, script];
    const { ok, text } = run('debootstrap', argv, { env: proxyEnvironment() });
    unmountBelow(partial);
    if (ok && existsSync(join(partial, proof))) return partial;
    last = text;
    rmSync(partial, { recursive: true, force: true });
    unfinished.delete(partial);
  }
  if (/Failed getting release|Couldn't download|unable to resolve/i.test(last)) {
    throw new SetupError(
      `cannot reach a Debian mirror (${mirrors().join(', ')}): check the network.\n  ${lastLines(last)}`,
    );
  }
  throw new SetupError(`debootstrap failed:\n  ${lastLines(last)}`);
}

/** A copy of the lab root beside `root`, where apt can be run and starts no services. @param {string} root */
function beginCopy(root) {
  const partial = beginFolder(root);
  const copy = run('cp', ['-a', '--reflink=auto', `${labRoot()}/.`, partial]);
  if (!copy.ok) throw new SetupError(`cannot copy the lab root: ${lastLines(copy.text)}`);
  for (const name of ['resolv.conf', 'hosts']) run('cp', ['-L', `/etc/${name}`, join(partial, 'etc', name)]);
  writeFileSync(join(partial, 'usr/sbin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  return partial;
}

/** Debian's forky is a moving target: its indexes may be older than they say they are good for. */
const INSIDE_APT = ['Acquire::Check-Valid-Until=false', 'APT::Sandbox::User=root', 'Acquire::Retries=3'];

/** apt-get in `root`: `update`, then `install PACKAGES`. @param {string} root @param {string[]} argv @param {readonly string[]} packages */
function aptInside(root, argv, packages) {
  const options = INSIDE_APT.flatMap((option) => ['-o', option]);
  const env = {
    ...proxyEnvironment(),
    DEBIAN_FRONTEND: 'noninteractive',
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  };
  const chroot = (/** @type {string[]} */ ...rest) =>
    run('chroot', [root, 'apt-get', '-q', '-y', ...options, ...rest], { env });
  const update = chroot('update');
  const install = chroot(...argv, 'install', '--no-install-recommends', ...packages);
  if (install.ok) return;
  const why = lastLines(update.ok ? install.text : update.text);
  throw new SetupError(`cannot install ${packages.join(' ')} into the lab:\n  ${why}`);
}

/** What cannot be had here is no reason to fail: the tests that need it are skipped. @param {string} tests @param {() => void} build */
function orSkip(tests, build) {
  try {
    build();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    removeUnfinished();
    process.stderr.write(`setup: the tests ${tests} are skipped: ${error.message}\n`);
  }
}

/** The node's root with an old containerd and runc: one day Debian's mirrors lack them. */
function buildOldRoot() {
  const root = oldRoot();
  if (existsSync(root)) return;
  step(`containerd node from Debian ${OLD_SUITE} (a few seconds, kept in ${dirname(root)})`, () => {
    const partial = beginCopy(root);
    // What debootstrap wrote names the mirror that works.
    const list = join(partial, 'etc/apt/sources.list');
    const lines = readFileSync(list, 'utf8');
    writeFileSync(list, `${lines}\n${lines.replaceAll(DEBIAN_SUITE, OLD_SUITE)}`);
    const packages = OLD_PACKAGES.map((name) => `${name}/${OLD_SUITE}`);
    aptInside(partial, ['-o', 'Dpkg::Options::=--force-unsafe-io', '--allow-downgrades'], packages);
    slim(partial);
    finishFolder(partial, root);
  });
}

function buildS3Root() {
  const root = s3Root();
  if (existsSync(root)) return;
  step(`S3 servers from Debian ${DEBIAN_SUITE} (about a minute, kept in ${dirname(root)})`, () => {
    const partial = beginCopy(root);
    aptInside(partial, ['-o', 'Dpkg::Options::=--force-unsafe-io'], S3_PACKAGES);
    slim(partial);
    finishFolder(partial, root);
  });
}

function buildDockerRoot() {
  const root = dockerRoot();
  if (existsSync(root)) return;
  step(`Docker node from Debian ${DEBIAN_SUITE} (half a minute, kept in ${dirname(root)})`, () => {
    const partial = beginCopy(root);
    aptInside(partial, ['-o', 'Dpkg::Options::=--force-unsafe-io'], DOCKER_PACKAGES);
    slim(partial);
    finishFolder(partial, root);
  });
}

/**
 * Programs of this machine's own suite: fetched with what they lack here, and unpacked, so that none of their services starts.
 * @param {string} folder @param {readonly string[]} packages
 */
function unpackPackages(folder, packages) {
  const partial = beginFolder(folder);
  const archives = join(partial, 'var/cache/apt/archives');
  mkdirSync(join(archives, 'partial'), { recursive: true });
  const options = [
    '--download-only',
    '--reinstall',
    '--no-install-recommends',
    '-o',
    `Dir::Cache::archives=${archives}`,
  ];
  const fetch = () => apt(['install', ...options, ...packages]);
  let fetched = fetch();
  if (!fetched.ok) {
    // An index that is out of date names packages that are gone.
    apt(['update']);
    fetched = fetch();
  }
  const { ok, text } = fetched;
  if (!ok) throw new SetupError(`cannot fetch ${packages.join(' ')}:\n  ${lastLines(text)}`);
  unpackArchives(partial);
  rmSync(archives, { recursive: true });
  finishFolder(partial, folder);
}

function buildLogJudges() {
  const folder = logJudges();
  if (existsSync(folder)) return;
  step(`judges of journals and audit logs (a few seconds, kept in ${dirname(folder)})`, () =>
    unpackPackages(folder, LOG_JUDGE_PACKAGES),
  );
}

/** Where Debian's package puts the versions of PostgreSQL. */
const POSTGRES_VERSIONS = '/usr/lib/postgresql';

function buildPostgres() {
  const folder = postgresFolder();
  if (existsSync(folder) || existsSync(POSTGRES_VERSIONS)) return;
  step(`PostgreSQL (a few seconds, kept in ${dirname(folder)})`, () => unpackPackages(folder, POSTGRES_PACKAGES));
}

/** From 1.31 on kubectl execs over WebSocket, and its kustomize knows components and labels; Debian 12's 1.20 does neither. */
const KUBECTL_MINOR = 31;

function hasRecentKubectl() {
  const { ok, stdout } = run('kubectl', ['version', '--client']);
  return ok && Number(/v1\.(\d+)/.exec(stdout)?.[1] ?? 0) >= KUBECTL_MINOR;
}

function buildKubectl() {
  const folder = kubectlFolder();
  if (existsSync(folder) || hasRecentKubectl()) return;
  step(`kubectl from Debian ${DEBIAN_SUITE} (a few seconds, kept in ${dirname(folder)})`, () => {
    const partial = beginFolder(folder);
    downloadOfSuite(partial, DEBIAN_SUITE, KUBECTL_PACKAGES);
    unpackArchives(partial);
    rmSync(join(partial, 'var'), { recursive: true });
    const { ok, text } = run(join(partial, 'usr/bin/kubectl'), ['version', '--client']);
    if (!ok) throw new SetupError(`kubectl of Debian ${DEBIAN_SUITE} does not run here: ${lastLines(text)}`);
    finishFolder(partial, folder);
  });
}

/**
 * Archives of another suite than this machine's, by an apt that has lists and a state of its own: for programs that need no more than
 * a C library. @param {string} partial @param {string} suite @param {readonly string[]} packages
 */
function downloadOfSuite(partial, suite, packages) {
  const at = (/** @type {string} */ path) => join(partial, 'var', path);
  for (const path of ['lists/partial', 'cache/apt/archives/partial']) mkdirSync(at(path), { recursive: true });
  writeFileSync(at('status'), '');
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(
    at('sources.list'),
    mirrors()
      .map((mirror) => `deb [signed-by=${keyring}] ${mirror} ${suite} main\n`)
      .join(''),
  );
  const settings = [
    ...INSIDE_APT,
    `Dir::Etc::SourceList=${at('sources.list')}`,
    'Dir::Etc::SourceParts=/dev/null',
    `Dir::State::Lists=${at('lists')}`,
    `Dir::State::status=${at('status')}`,
    `Dir::Cache=${at('cache')}`,
  ].flatMap((setting) => ['-o', setting]);
  const update = apt([...settings, 'update']);
  const download = apt([...settings, 'download', ...packages], { cwd: at('cache/apt/archives') });
  if (download.ok) return;
  const why = lastLines(update.ok ? download.text : update.text);
  throw new SetupError(`cannot fetch ${packages.join(' ')} of Debian ${suite}:\n  ${why}`);
}

function buildPromtool() {
  const folder = promtoolFolder();
  if (existsSync(folder) || hasProgram('promtool')) return;
  step(`promtool (a few seconds, kept in ${dirname(folder)})`, () => {
    unpackPackages(folder, PROMTOOL_PACKAGES);
    // The server and its pages are most of the package.
    for (const part of ['usr/share', 'usr/bin/prometheus'])
      rmSync(join(folder, part), { recursive: true, force: true });
  });
}

/** Where programs of the memory tests are in their root, and what builds them there. */
const ZOO = '/opt/zoo';
const GO = '/opt/compilers';
const COMPILE = `set -e
mount -t proc proc /proc
cd ${ZOO}
goroot=$(echo ${GO}/usr/lib/go-1*)
env HOME=/tmp GOROOT="$goroot" GOCACHE=/tmp/go-cache CGO_ENABLED=0 GOTOOLCHAIN=local GO111MODULE=off "$goroot/bin/go" build -o zoo-go zoo.go
set -- /usr/lib/jvm/java-*/bin/java
"$1" -cp ${GO}/usr/share/java/eclipse-jdt-core-compiler-batch.jar \\
  org.eclipse.jdt.internal.compiler.batch.Main -proc:none -source 17 -target 17 -d . Zoo.java
`;

/** Real programs for the memory tests. @param {string} node */
function buildZooRoot(node) {
  const root = zooRoot();
  if (existsSync(root)) return;
  step(`programs to capture from Debian ${DEBIAN_SUITE} (half a minute, kept in ${dirname(root)})`, () => {
    const partial = beginCopy(root);
    aptInside(partial, ['--download-only'], [...ZOO_PACKAGES, ...ZOO_COMPILERS]);
    unpackArchives(partial);
    compileZoo(partial, node);
    slim(partial);
    finishFolder(partial, root);
  });
}

/** Unpacked and not installed: maintainers' scripts would take longer than all the rest. @param {string} partial */
function unpackArchives(partial) {
  const archives = join(partial, 'var/cache/apt/archives');
  for (const name of readdirSync(archives).filter((one) => one.endsWith('.deb'))) {
    const isCompiler = /^(golang|ecj|libeclipse)/.test(name);
    const { ok, text } = run('dpkg-deb', ['-x', join(archives, name), isCompiler ? join(partial, GO) : partial]);
    if (!ok) throw new SetupError(`cannot unpack ${name}: ${lastLines(text)}`);
  }
}

/** In a mount namespace of its own: java needs /proc. @param {string} partial @param {string} node */
function compileZoo(partial, node) {
  mkdirSync(join(partial, ZOO), { recursive: true });
  for (const name of ZOO_SOURCES) writeFileSync(join(partial, ZOO, name), readFileSync(zooSource(name)));
  const { ok, text } = run('unshare', ['--mount', 'chroot', partial, 'sh', '-c', COMPILE]);
  if (!ok) throw new SetupError(`cannot compile ${ZOO_SOURCES.join(' ')}:\n  ${lastLines(text)}`);
  for (const path of [GO, 'tmp/go-cache']) rmSync(join(partial, path), { recursive: true, force: true });
  run('cp', ['-L', node, join(partial, ZOO, 'node')]);
}

/**
 * What the container image is built from in the lab, where neither a registry of images nor npm's is reachable: Debian's packages as
 * distroless has them, npm, and a cache of npm with the packages of the lock file. @param {string} node
 */
function buildImageParts(node) {
  const folder = imageParts();
  if (existsSync(folder)) return;
  step(`parts of the container image (a few seconds, kept in ${dirname(folder)})`, () => {
    const partial = beginFolder(folder);
    unpackRuntime(partial, node);
    const env = { ...process.env, npm_config_cache: join(partial, 'cache') };
    const trial = join(partial, 'trial');
    mkdirSync(trial);
    for (const name of ['package.json', 'package-lock.json'])
      writeFileSync(join(trial, name), readFileSync(join(PROJECT, name)));
    const packages = run('npm', ['ci', ...QUICK, '--omit=dev', '--ignore-scripts'], { cwd: trial, env });
    if (!packages.ok) throw npmError('the container image', packages.text);
    rmSync(trial, { recursive: true });
    const npm = run('npm', ['install', ...QUICK, '--prefix', join(partial, 'npm'), `npm@${NPM_VERSION}`]);
    if (!npm.ok) throw npmError('npm itself', npm.text);
    finishFolder(partial, folder);
  });
}

/** As distroless lays them out: each package's control file below status.d, and one file of certificates. @param {string} partial @param {string} node */
function unpackRuntime(partial, node) {
  const [root, archives] = [join(partial, 'runtime'), join(partial, 'archives')];
  const status = join(root, 'var/lib/dpkg/status.d');
  for (const path of [status, archives, join(root, 'etc/ssl/certs'), join(root, 'nodejs')])
    mkdirSync(path, { recursive: true });
  const base = /gcc-\d+-base/.exec(run('apt-cache', ['depends', 'libgcc-s1']).stdout)?.[0] ?? [];
  const download = () => run('apt-get', ['-q', 'download', ...IMAGE_PACKAGES, ...[base].flat()], { cwd: archives });
  let fetched = download();
  if (!fetched.ok) {
    apt(['update']);
    fetched = download();
  }
  if (!fetched.ok) throw new SetupError(`cannot fetch ${IMAGE_PACKAGES.join(' ')}:\n  ${lastLines(fetched.text)}`);
  for (const name of readdirSync(archives)) {
    const archive = join(archives, name);
    const { ok, text } = run('dpkg-deb', ['-x', archive, root]);
    if (!ok) throw new SetupError(`cannot unpack ${name}: ${lastLines(text)}`);
    writeFileSync(join(status, name.replace(/_.*/, '')), run('dpkg-deb', ['-f', archive]).stdout);
  }
  rmSync(archives, { recursive: true });
  const certificates = join(root, 'usr/share/ca-certificates/mozilla');
  const bundle = readdirSync(certificates).map((name) => readFileSync(join(certificates, name)));
  writeFileSync(join(root, 'etc/ssl/certs/ca-certificates.crt'), Buffer.concat(bundle));
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n',
  );
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnobody:x:65534:\n');
  const license = [`../node_modules/node-linux-${process.arch}/LICENSE`, '../LICENSE', '../../LICENSE']
    .map((path) => join(dirname(node), path))
    .find((path) => existsSync(path));
  if (license !== undefined) writeFileSync(join(root, 'nodejs/LICENSE'), readFileSync(license));
}

/** Two set-ups at once would fight over the cache: the second waits for the folder that the first made. @param {() => void} work */
function locked(work) {
  mkdirSync(cacheFolder(), { recursive: true });
  const lock = join(cacheFolder(), 'setup.lock');
  const deadline = Date.now() + LOCK_TIMEOUT_S * 1000;
  let told = false;
  for (;;) {
    try {
      mkdirSync(lock);
      writeFileSync(join(lock, 'pid'), String(process.pid));
      break;
    } catch (error) {
      if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    }
    if (lockIsStale(lock)) {
      rmSync(lock, { recursive: true, force: true });
      continue;
    }
    if (!told) process.stderr.write('setup: waiting for another set-up of this machine\n');
    told = true;
    if (Date.now() > deadline)
      throw new SetupError(`another set-up holds ${lock} for ${LOCK_TIMEOUT_S} s; remove it if none runs.`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 250);
  }
  try {
    removePartial();
    work();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

/** @param {string} lock */
function lockIsStale(lock) {
  try {
    const pid = readFileSync(join(lock, 'pid'), 'utf8');
    return !existsSync(`/proc/${pid}`);
  } catch {
    // Just made, or its maker died before writing: five seconds tell them apart.
    try {
      return Date.now() - statSync(lock).mtimeMs > 5000;
    } catch {
      return false;
    }
  }
}

/** @param {string} program @param {string} node @param {string[]} argv */
function become(program, node, argv) {
  const path = join(PROJECT, program);
  if (!existsSync(path)) throw new SetupError(`${program} is not there yet.`);
  const roots = { EXHIBIT_LAB_ROOT: labRoot(), EXHIBIT_OLD_ROOT: oldRoot(), EXHIBIT_DOCKER_ROOT: dockerRoot() };
  const env = { ...process.env, ...roots, EXHIBIT_S3_ROOT: s3Root(), EXHIBIT_ZOO_ROOT: zooRoot() };
  env.PATH = [dirname(node), env.PATH ?? '', '/usr/sbin', '/sbin'].join(delimiter);
  const child = spawn(node, [path, ...argv], { stdio: 'inherit', env });
  // Ctrl-C reaches the child from the terminal; a signal sent to this process alone is handed on.
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on('error', (error) => {
    process.stderr.write(`setup: cannot run ${node}: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    process.exitCode = code ?? 128 + ({ SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal ?? ''] ?? 1);
  });
}

function main() {
  const [name = '', ...argv] = process.argv.slice(2);
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[/** @type {keyof typeof COMMANDS} */ (name)] : undefined;
  if (command === undefined) {
    process.stderr.write(`usage: node test/lab/setup.mjs <${Object.keys(COMMANDS).join('|')}> [arguments...]\n`);
    return 2;
  }
  if (process.platform !== 'linux') {
    throw new SetupError(
      `exhibit needs Linux (namespaces, cgroups, /proc) and this is ${process.platform}: run it on a Linux machine or in a virtual one.`,
    );
  }
  const isRoot = process.getuid?.() === 0;
  let node = '';
  const parts = () => {
    installPackages();
    node = node24();
    if (!isRoot) return;
    installHostPackages(command.zoo);
    buildLabRoot();
    if (command.old) orSkip('on containerd 1.6', buildOldRoot);
    if (command.s3) buildS3Root();
    if (command.docker) buildDockerRoot();
    if (command.docker) orSkip('of the container image', () => buildImageParts(node));
    if (command.zoo) orSkip('of the image that puts criu on nodes', () => buildCriuImage(node));
    if (command.s3) orSkip('that ask journalctl and ausearch', buildLogJudges);
    if (command.s3) orSkip('on PostgreSQL', buildPostgres);
    if (command.zoo) orSkip('that ask kubectl, and those of the manifests', buildKubectl);
    if (command.zoo) orSkip('that ask promtool', buildPromtool);
    if (command.zoo) orSkip('that capture programs of many languages', () => buildZooRoot(node));
  };
  locked(parts);
  if (!isRoot)
    process.stderr.write('setup: not root, so no containerd node and no S3 here; what needs them is skipped\n');
  if (command.program === undefined) return 0;
  become(command.program, node, argv);
  return undefined;
}

process.on('exit', removeUnfinished);

try {
  process.exitCode = main();
} catch (error) {
  process.stderr.write(
    error instanceof SetupError
      ? `setup: ${error.message}\n`
      : `setup: ${error instanceof Error ? error.stack : error}\n`,
  );
  process.exitCode = 1;
}
