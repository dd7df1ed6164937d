/**
 * Peers of an earlier release, played back: they say the bytes that the release said, and read answers with its own descriptors.
 * Only ids are put in place of the recorded ones: text of the same length, so no other byte changes.
 */
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import grpc from '@grpc/grpc-js';
import { loadLink } from '../../proto/load.ts';
import { type RawCall, type Release, rawCall, readCalls, type Said, startRawServer } from './recorded-call.ts';
import { recordedTypes } from './recorded-descriptor.ts';

/** A message as the release reads it: names as in its .proto files, only what was on the wire. */
export type Message = Record<string, unknown>;

const AGENT_MESSAGE = 'exhibit.controller.v1.AgentMessage';
const CONTROLLER_MESSAGE = 'exhibit.controller.v1.ControllerMessage';

export interface Codec {
  decode(type: string, bytes: Buffer): Message;
  encode(type: string, message: Message): Buffer;
}

export function codecOf(release: Release): Codec {
  const types = recordedTypes(release);
  return {
    decode(type, bytes) {
      const found = types.type(type);
      return found.toObject(found.decode(bytes), { longs: String, enums: String });
    },
    encode(type, message) {
      const found = types.type(type);
      return Buffer.from(found.encode(found.fromObject(message)).finish());
    },
  };
}

/** Ids are UUIDs in text. */
export function withIds(bytes: Buffer, ids: ReadonlyMap<string, string>): Buffer {
  let text = bytes.toString('latin1');
  for (const [recorded, live] of ids) text = text.replaceAll(recorded, live);
  return Buffer.from(text, 'latin1');
}

interface Line extends Said {
  readonly message: Message;
}

/** What agent and controller said on all their streams, in order. */
function linesOf(release: Release, codec: Codec): Line[] {
  const said = readCalls(release, 'link').flatMap((call) => call.said);
  return said.map(({ by, bytes }) => {
    return { by, bytes, message: codec.decode(by === 'client' ? AGENT_MESSAGE : CONTROLLER_MESSAGE, bytes) };
  });
}

interface Command {
  readonly request: { readonly capture_id: string; readonly selector: unknown; readonly artifacts?: unknown };
  readonly resume?: boolean;
}

const commandIn = ({ message }: Line): Command | undefined => message.capture as Command | undefined;
const isOf = (line: Line, captureId: string): boolean => line.bytes.includes(captureId);

export interface RecordedAgent extends AsyncDisposable {
  /** What the controller said, as the release understood it. */
  readonly heard: readonly Message[];
  /** With what the stream ended. */
  readonly end: Promise<grpc.StatusObject>;
  /** Tells of the captures that the node itself began. Their ids. */
  tellOwn(): string[];
}

/** An agent of that release: greets, beats, answers lookups, and tells of a capture what it told of the one it was recorded with. */
export function recordedAgent(
  release: Release,
  { address, caFile, files }: { address: string; caFile: string; files: { certFile: string; keyFile: string } },
): RecordedAgent {
  const codec = codecOf(release);
  const lines = linesOf(release, codec);
  const read = (file: string) => readFileSync(file);
  const credentials = grpc.credentials.createSsl(read(caFile), read(files.keyFile), read(files.certFile));
  const client = new grpc.Client(address, credentials, { 'grpc.ssl_target_name_override': 'localhost' });
  const call = rawCall(client, loadLink().AgentLink.service.Connect.path);
  const heard: Message[] = [];
  const end = Promise.withResolvers<grpc.StatusObject>();
  /** By the live id: what is still to be said and heard of the capture. */
  const open = new Map<string, { readonly rest: Line[]; readonly ids: Map<string, string> }>();
  let beating: NodeJS.Timeout | undefined;

  const first = (what: (line: Line) => boolean): Line => {
    const line = lines.find(what);
    if (line === undefined) throw new Error(`nothing of the kind was recorded of ${release}`);
    return line;
  };
  const isBeat = ({ by, message }: Line) => by === 'client' && message.heartbeat !== undefined;
  const beat = () => {
    for (const { bytes } of lines.filter(isBeat).slice(0, 2)) call.write(bytes);
  };
  const goOn = (captureId: string) => {
    const thread = open.get(captureId);
    while (thread?.rest[0]?.by === 'client')
      call.write(withIds(thread.rest.shift()?.bytes ?? Buffer.alloc(0), thread.ids));
  };
  const carryOut = ({ request, resume }: Command) => {
    const asked = lines.findIndex((line) => {
      const recorded = commandIn(line);
      const { selector, artifacts } = recorded?.request ?? {};
      const [was, is] = [
        { selector, artifacts },
        { selector: request.selector, artifacts: request.artifacts },
      ];
      return recorded !== undefined && (recorded.resume ?? false) === (resume ?? false) && isDeepStrictEqual(was, is);
    });
    const recordedId = commandIn(lines[asked] ?? first(() => false))?.request.capture_id ?? '';
    const rest = lines.slice(asked + 1).filter((line) => isOf(line, recordedId));
    open.set(request.capture_id, { rest, ids: new Map([[recordedId, request.capture_id]]) });
    goOn(request.capture_id);
  };
  const answer = (lookup: Message) => {
    const asked = lines.findIndex(
      ({ by, message }) =>
        by === 'server' &&
        message.lookup !== undefined &&
        isDeepStrictEqual({ ...(message.lookup as Message), lookup_id: '' }, { ...lookup, lookup_id: '' }),
    );
    const recorded = lines.slice(asked).find(({ by, message }) => by === 'client' && message.lookup !== undefined);
    const said = { ...(recorded?.message.lookup as Message), lookup_id: lookup.lookup_id };
    call.write(codec.encode(AGENT_MESSAGE, { lookup: said }));
  };

  call.on('data', (bytes: Buffer) => {
    const message = codec.decode(CONTROLLER_MESSAGE, bytes);
    heard.push(message);
    const { welcome, capture, cancel, lookup } = message as Record<string, Message | undefined>;
    if (welcome !== undefined) {
      beat();
      beating = setInterval(beat, Number(welcome.heartbeat_ms));
    } else if (capture !== undefined) carryOut(capture as unknown as Command);
    else if (lookup !== undefined) answer(lookup);
    else if (cancel !== undefined) {
      open.get(String(cancel.capture_id))?.rest.shift();
      goOn(String(cancel.capture_id));
    }
  });
  call.on('error', () => undefined);
  call.on('status', (status) => end.resolve(status));
  call.write(first(({ message }) => message.hello !== undefined).bytes);
  return {
    heard,
    end: end.promise,
    tellOwn() {
      const news = lines.filter(({ message }) => (message.news as Message | undefined)?.trigger !== undefined);
      for (const { bytes } of news) call.write(bytes);
      const ids = news.map(({ message }) => ((message.news as Message).event as Message).capture_id as string);
      return [...new Set(ids)];
    },
    async [Symbol.asyncDispose]() {
      clearInterval(beating);
      call.cancel();
      await end.promise;
      client.close();
    },
  };
}

export interface RecordedController extends AsyncDisposable {
  readonly port: number;
  /** What agents said, as the release understood it. */
  readonly heard: readonly Message[];
  /** Agents that have a stream now. */
  readonly connected: number;
  /** Sends what it sent when it commanded the capture of this reason, with this id. */
  command(reason: string, captureId: string, options?: { readonly resume?: boolean }): void;
  cancel(captureId: string): void;
  lookup(): void;
  /** Bytes as they are, as of a release that is newer still. */
  say(bytes: Buffer): void;
}

/** A controller of that release: welcomes, answers heartbeats, and commands what it was recorded commanding. */
export async function recordedController(
  release: Release,
  { server, caFile }: { server: { certFile: string; keyFile: string }; caFile: string },
): Promise<RecordedController> {
  const codec = codecOf(release);
  const lines = linesOf(release, codec);
  const heard: Message[] = [];
  const calls = new Set<RawCall>();
  const byServer = (what: (line: Line) => boolean): Line => {
    const line = lines.find((one) => one.by === 'server' && what(one));
    if (line === undefined) throw new Error(`nothing of the kind was recorded of ${release}`);
    return line;
  };
  const onCall = (call: RawCall) => {
    calls.add(call);
    call.on('data', (bytes: Buffer) => {
      const message = codec.decode(AGENT_MESSAGE, bytes);
      heard.push(message);
      if (message.hello !== undefined) call.write(byServer((line) => line.message.welcome !== undefined).bytes);
      else if (message.heartbeat !== undefined)
        call.write(codec.encode(CONTROLLER_MESSAGE, { heartbeat: message.heartbeat }));
    });
    call.on('cancelled', () => calls.delete(call));
    call.on('end', () => calls.delete(call));
    call.on('error', () => undefined);
  };
  const pair = { private_key: readFileSync(server.keyFile), cert_chain: readFileSync(server.certFile) };
  const raw = await startRawServer({
    ...{ services: [loadLink().AgentLink.service], address: '127.0.0.1:0', onCall },
    credentials: grpc.ServerCredentials.createSsl(readFileSync(caFile), [pair], true),
  });
  const say = (bytes: Buffer) => {
    for (const call of calls) call.write(bytes);
  };
  return {
    ...{ port: raw.port, heard, say },
    get connected() {
      return calls.size;
    },
    command(reason, captureId, { resume = false } = {}) {
      const line = byServer((one) => {
        const found = commandIn(one);
        const why = (found?.request as Message | undefined)?.reason;
        return found !== undefined && (found.resume ?? false) === resume && why === reason;
      });
      say(withIds(line.bytes, new Map([[commandIn(line)?.request.capture_id ?? '', captureId]])));
    },
    cancel(captureId) {
      const line = byServer(({ message }) => message.cancel !== undefined);
      say(withIds(line.bytes, new Map([[String((line.message.cancel as Message).capture_id), captureId]])));
    },
    lookup: () => say(byServer(({ message }) => message.lookup !== undefined).bytes),
    [Symbol.asyncDispose]: () => raw[Symbol.asyncDispose](),
  };
}
