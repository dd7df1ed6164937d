/**
 * Records what this release says and writes, so that the next one can be held against it: as root, with the lab's tools,
 * `unshare --cgroup node test/lab/record-release.ts` (so that processes do not tell in which cgroup the lab itself runs). Each
 * release adds a folder to test/recorded and changes none: docs/compatibility.md.
 *
 * A real controller, a real agent on a containerd node and the real command line, with relays between them that keep every
 * message; then what the two have on disk. Names are neutral, so that nothing of the machine gets into the repository.
 */
import { generateKeyPairSync } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { zstdCompressSync } from 'node:zlib';
import grpc from '@grpc/grpc-js';
import { openapi } from '../../controller/api/openapi.ts';
import { loadController, loadExhibit, loadLink } from '../../proto/load.ts';
import { runCli, startAgent } from './agent.ts';
import { configSchemas } from './config-schemas.ts';
import { type LabController, startController } from './controller.ts';
import { type LabNode, startNode } from './node.ts';
import type { LabPod } from './pod.ts';
import { RECORDED, writtenCall } from './recorded-call.ts';
import { checkRecording } from './recorded-check.ts';
import { currentDescriptor } from './recorded-descriptor.ts';
import { type RecordingRelay, startRecordingRelay } from './recording-relay.ts';
import { labObstacle } from './requires.ts';

/** The agent's files are there while it is recorded; the name gets into journals and bundles. */
const PLACE = '/tmp/exhibit-recorded';
const CASE = 'INC-1';
const CLUSTER = 'lab';
const NODE = 'node-1';
const PATIENCE_MS = 60_000;

interface RecordedCommand {
  readonly argv: readonly string[];
  readonly code: number;
  /** What `--json` printed. */
  readonly stdout: string;
}

const read = (file: string): Buffer => readFileSync(file);

async function until(what: () => boolean | Promise<boolean>, name: string): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await what())) {
    if (Date.now() > deadline) throw new Error(`not within ${PATIENCE_MS} ms: ${name}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

class Recorder implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly #work = mkdtempSync(join(tmpdir(), 'exhibit-record-'));
  readonly #out: string;
  readonly #commands: Record<'agent' | 'controller', RecordedCommand[]> = { agent: [], controller: [] };
  #node!: LabNode;
  #web!: LabPod;
  #controller!: LabController;
  #agent!: Awaited<ReturnType<typeof startAgent>>;
  #config: Record<string, unknown> = {};
  #link!: RecordingRelay;
  #socket!: RecordingRelay;
  #api!: RecordingRelay;

  constructor(out: string) {
    this.#out = out;
    for (const folder of [this.#work, PLACE, join('/run/exhibit', basename(PLACE))]) {
      rmSync(folder, { recursive: true, force: true });
      this.#stack.defer(() => rmSync(folder, { recursive: true, force: true }));
    }
    mkdirSync(this.#work);
  }

  get #socketPath(): string {
    return join(this.#work, 'relay.sock');
  }

  async start(): Promise<void> {
    this.#node = this.#stack.use(await startNode());
    const containers = [{ name: 'app' }];
    this.#web = await this.#node.runPod({ namespace: 'prod', name: 'web-0', labels: { app: 'web' }, containers });
    await this.#node.runPod({ namespace: 'guarded', name: 'db-0', labels: { app: 'db' }, containers });
    this.#controller = this.#stack.use(
      await startController({
        admins: ['ada', 'bob'],
        config: { approvals: [{ clusters: [CLUSTER], namespaces: ['guarded'] }] },
      }),
    );
    await this.#startRelays();
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    const keyFile = join(this.#work, 'seal.pem');
    writeFileSync(keyFile, privateKey.export({ format: 'pem', type: 'pkcs8' }), { mode: 0o600 });
    mkdirSync(this.#out, { recursive: true });
    writeFileSync(join(this.#out, 'seal.pub.pem'), publicKey.export({ format: 'pem', type: 'spki' }));
    const section = await this.#controller.agentSection(CLUSTER, NODE);
    const address = `127.0.0.1:${this.#link.port}`;
    this.#config = {
      ...{ cluster: CLUSTER, node: NODE, pod: 'exhibit/exhibit-agent-x7k2p', signing: { keyFile } },
      controller: { ...section, address, reconnect: { firstMs: 100, maxMs: 500 } },
      policy: { artifacts: ['processes', 'spec', 'memory', 'node', 'logs', 'image'] },
      baselines: { from: ['socket'] },
    };
    await this.#startAgent();
    this.#stack.defer(() => this.#agent[Symbol.asyncDispose]());
  }

  async #startAgent(): Promise<void> {
    this.#agent = await startAgent(this.#node, { config: this.#config, folder: PLACE });
    using ada = await this.#controller.client('ada');
    const isThere = async () => (await ada.call('ListNodes', { connectedOnly: true })).nodes.length === 1;
    await until(isThere, 'the agent is connected');
  }

  async #startRelays(): Promise<void> {
    const { pki } = this.#controller;
    const server = { private_key: read(pki.server.keyFile), cert_chain: read(pki.server.certFile) };
    const as = ({ certFile, keyFile }: { certFile: string; keyFile: string }) =>
      grpc.credentials.createSsl(read(pki.caFile('controller')), read(keyFile), read(certFile));
    this.#link = this.#stack.use(
      await startRecordingRelay({
        ...{ services: [loadLink().AgentLink.service], address: '127.0.0.1:0' },
        serverCredentials: grpc.ServerCredentials.createSsl(read(pki.caFile('agents')), [server], true),
        upstream: { address: () => this.#controller.agents, credentials: as(await pki.agent(CLUSTER, NODE)) },
      }),
    );
    this.#api = this.#stack.use(
      await startRecordingRelay({
        ...{ services: [loadController().Controller.service], address: '127.0.0.1:0' },
        serverCredentials: grpc.ServerCredentials.createSsl(null, [server], false),
        upstream: { address: () => this.#controller.api, credentials: as(await pki.operator('ada')) },
      }),
    );
    this.#socket = this.#stack.use(
      await startRecordingRelay({
        ...{ services: [loadExhibit().Agent.service], address: `unix:${this.#socketPath}` },
        serverCredentials: grpc.ServerCredentials.createInsecure(),
        upstream: { address: () => `unix:${this.#agent.socket}`, credentials: grpc.credentials.createInsecure() },
      }),
    );
  }

  /** `exhibit ARGV --json` by way of a relay; what it printed. */
  async #exhibit(to: 'agent' | 'controller', ...argv: string[]): Promise<string> {
    const relay = to === 'agent' ? this.#socket : this.#api;
    relay.during = `exhibit ${argv.join(' ')}`;
    this.#link.during = relay.during;
    const ca = this.#controller.pki.caFile('controller');
    const where =
      to === 'agent' ? ['--socket', this.#socketPath] : ['--controller', `127.0.0.1:${relay.port}`, '--ca', ca];
    const { code, stdout, stderr } = await runCli([...where, ...argv, '--json'], {
      EXHIBIT_CONTEXTS: join(this.#work, 'none.yaml'),
    });
    if (code !== 0) throw new Error(`exhibit ${argv.join(' ')}: ${code} ${stderr}`);
    this.#commands[to].push({ argv, code, stdout });
    return stdout;
  }

  async throughController(): Promise<void> {
    const ask = (...argv: string[]) => this.#exhibit('controller', ...argv);
    await ask('nodes');
    await ask('containers');
    await ask('cases', 'open', CASE, '--title', 'odd traffic');
    await ask('cases', 'note', CASE, '--text', 'seen at noon');
    await ask('capture', 'prod/web-0', '--artifacts', 'processes', '--case', CASE, '--reason', 'an alert');
    const guarded = ['guarded/db-0', '--artifacts', 'spec', '--detach'];
    const [approved = '', denied = ''] = [
      idIn(await ask('capture', ...guarded, '--reason', 'to be approved')),
      idIn(await ask('capture', ...guarded, '--reason', 'to be denied')),
    ];
    using bob = await this.#controller.client('bob');
    await bob.call('ApproveCapture', { captureId: approved });
    await bob.call('DenyCapture', { captureId: denied, reason: 'not this one' });
    await ask('watch', approved);
    await ask('cancel', approved);
    await this.#refusedByTheAgent();
    await ask('captures');
    await ask('cases');
    await ask('cases', 'show', CASE);
    await ask('audit');
    await ask('cases', 'close', CASE, '--text', 'done');
  }

  async #refusedByTheAgent(): Promise<void> {
    this.#link.during = 'a capture that the policy of the agent refuses';
    using ada = await this.#controller.client('ada');
    const selector = { pod: { namespace: 'prod', pod: 'web-0' } };
    const { captures } = await ada.call('CreateCapture', { selector, artifacts: ['checkpoint'] });
    const captureId = captures[0]?.captureId ?? '';
    await until(
      async () => (await ada.call('GetCapture', { captureId })).state === 'refused',
      'the agent refuses the checkpoint',
    );
  }

  /** Two bundles of one pod, the second of which differs, by the agent's own API. */
  async onTheNode(): Promise<void> {
    const ask = (...argv: string[]) => this.#exhibit('agent', ...argv);
    await ask('containers');
    const quick = ['capture', 'prod/web-0', '--artifacts', 'processes,spec', '--case', CASE];
    for (const name of ['before', 'after'] as const) {
      const captureId = idIn(await ask(...quick, '--reason', name));
      const bundle = join(this.#agent.evidence, CLUSTER, NODE, captureId);
      cpSync(bundle, join(this.#out, 'bundles', name), { recursive: true });
      await this.#web.exec('app', ['sh', '-c', 'sleep 1000 >/dev/null 2>&1 &']);
    }
    const [captureId = ''] = [idIn(await ask('captures'))];
    await ask('cancel', captureId);
    await ask('doctor');
  }

  /** Begins a long capture and does `act` once its first artifact is there. */
  async #inTheMiddle(name: string, act: (captureId: string) => Promise<void>): Promise<string> {
    this.#link.during = name;
    using ada = await this.#controller.client('ada');
    const selector = { pod: { namespace: 'prod', pod: 'web-0' } };
    const artifacts = ['processes', 'memory', 'node', 'logs', 'image'];
    const { captures } = await ada.call('CreateCapture', { selector, artifacts, caseId: '', reason: name });
    const captureId = captures[0]?.captureId ?? '';
    let acted = false;
    for await (const { event, capture } of ada.watch(captureId)) {
      if (!acted && event?.stageEnded?.stage === 'processes') {
        acted = true;
        await act(captureId);
      }
      // What an agent that was killed leaves is ended by the next one.
      if (name === 'killed' && acted) break;
      if (name !== 'killed' && capture?.state === 'complete') throw new Error(`${name}: it was too quick`);
    }
    if (!acted) throw new Error(`${name}: nothing could be done in the middle`);
    return captureId;
  }

  async cancelled(): Promise<void> {
    await this.#inTheMiddle('cancelled', async (captureId) => {
      using ada = await this.#controller.client('ada');
      await ada.call('CancelCapture', { captureId });
    });
  }

  /** The state of an agent that was killed, and what a next one tells of it. */
  async killed(): Promise<void> {
    const captureId = await this.#inTheMiddle('killed', () => this.#agent.kill());
    const state = join(this.#node.hostRoot, 'run/exhibit', basename(PLACE));
    const isState = (file: string) => !/\/(code|code-cache|dumps?)(\/|$)/.test(file);
    cpSync(state, join(this.#out, 'state'), { recursive: true, filter: isState });
    const unsealed = join(CLUSTER, NODE, captureId);
    cpSync(join(this.#agent.evidence, unsealed), join(this.#out, 'unsealed', unsealed), { recursive: true });
    for (const name of readdirSync(join(this.#agent.evidence)).filter((one) => one.startsWith('.')))
      cpSync(join(this.#agent.evidence, name), join(this.#out, 'unsealed', name), { recursive: true });
    this.#link.during = 'resumed';
    await this.#startAgent();
    using ada = await this.#controller.client('ada');
    await until(
      async () => (await ada.call('GetCapture', { captureId })).endedAtMs !== '0',
      'the capture of the killed agent is told to have ended',
    );
  }

  async write(): Promise<void> {
    await this.#agent.stop();
    await this.#controller.stop();
    const put = (name: string, value: unknown) =>
      writeFileSync(join(this.#out, name), `${JSON.stringify(value, null, 1)}\n`);
    put('link-calls.json', this.#link.calls.map(writtenCall));
    put('agent-calls.json', this.#socket.calls.map(writtenCall));
    put('controller-calls.json', this.#api.calls.map(writtenCall));
    put('commands.json', this.#commands);
    put('proto.json', currentDescriptor());
    writeFileSync(join(this.#out, 'config.json'), `${JSON.stringify(configSchemas())}\n`);
    writeFileSync(join(this.#out, 'openapi.json'), `${JSON.stringify(openapi())}\n`);
    const file = join(this.#work, 'controller.db');
    const database = new DatabaseSync(join(this.#controller.folder, 'controller.db'));
    // Without its journal, and without what was deleted.
    database.exec(`vacuum into '${file}'`);
    database.close();
    writeFileSync(join(this.#out, 'controller.db.zst'), zstdCompressSync(read(file)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

const idIn = (printed: string): string =>
  /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/.exec(printed)?.[0] ?? '';

const obstacle = labObstacle();
if (obstacle !== undefined) throw new Error(obstacle);
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const out = join(RECORDED, version.split('.').slice(0, 2).join('.'));
if (readdirSync(RECORDED).includes(basename(out)) && !process.argv.includes('--again'))
  throw new Error(`${out} is there: a release is recorded once`);
mkdirSync(out, { recursive: true });
// Configurations that people of this release have are written by hand.
for (const name of readdirSync(out)) if (name !== 'config') rmSync(join(out, name), { recursive: true });
{
  await using recorder = new Recorder(out);
  await recorder.start();
  await recorder.throughController();
  await recorder.onTheNode();
  await recorder.cancelled();
  await recorder.killed();
  await recorder.write();
}
checkRecording(out);
