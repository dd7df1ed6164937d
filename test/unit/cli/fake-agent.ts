import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import type { ErrorCode } from '../../../evidence/error.ts';
import type { AgentHandlers } from '../../../proto/gen/exhibit/v1/Agent.ts';
import type { Capture } from '../../../proto/gen/exhibit/v1/Capture.ts';
import type { CaptureEvent } from '../../../proto/gen/exhibit/v1/CaptureEvent.ts';
import type { CaptureRequest__Output } from '../../../proto/gen/exhibit/v1/CaptureRequest.ts';
import type { DoctorResponse } from '../../../proto/gen/exhibit/v1/DoctorResponse.ts';
import type { ListCapturesResponse } from '../../../proto/gen/exhibit/v1/ListCapturesResponse.ts';
import type { ListContainersResponse } from '../../../proto/gen/exhibit/v1/ListContainersResponse.ts';
import type { LogLevel } from '../../../proto/gen/exhibit/v1/LogLevel.ts';
import { loadExhibit } from '../../../proto/load.ts';

/** What the fake answers. A refusal is an error of ours; `events` may wait, and end without the last one. */
export interface Script {
  readonly events?: (request: CaptureRequest__Output, agent: FakeAgent) => AsyncIterable<CaptureEvent>;
  readonly containers?: ListContainersResponse | Refusal;
  readonly capture?: Capture | Refusal;
  readonly captures?: ListCapturesResponse | Refusal;
  readonly cancelled?: Capture | Refusal;
  readonly doctor?: DoctorResponse | Refusal;
  readonly logLevel?: LogLevel | Refusal;
}

/** An error as the agent sends it; without `code` it is gRPC's own. */
export class Refusal extends Error {
  readonly code: ErrorCode | undefined;
  readonly status: grpc.status;

  constructor(code: ErrorCode | undefined, details: string, status = grpc.status.FAILED_PRECONDITION) {
    super(details);
    this.code = code;
    this.status = status;
  }
}

export interface FakeAgent extends AsyncDisposable {
  readonly socket: string;
  /** Every message that came, in order, by the name of its call. */
  readonly requests: { call: string; message: object }[];
  /** Streams whose caller hung up before they ended. */
  readonly hangUps: number;
  /** As SIGKILL would. */
  die(): void;
}

/** The agent's API on a socket of its own, with scripted answers. */
export async function startFakeAgent(script: Script): Promise<FakeAgent> {
  const folder = await mkdtemp(path.join(tmpdir(), 'exhibit-cli-'));
  const socket = path.join(folder, 'agent.sock');
  const server = new grpc.Server();
  const requests: FakeAgent['requests'] = [];
  let hangUps = 0;
  const agent: FakeAgent = {
    socket,
    requests,
    get hangUps() {
      return hangUps;
    },
    die: () => server.forceShutdown(),
    [Symbol.asyncDispose]: async () => {
      server.forceShutdown();
      await rm(folder, { recursive: true, force: true });
    },
  };

  function unary<Request extends object, Response>(
    call: string,
    response: Response | Refusal | undefined,
  ): grpc.handleUnaryCall<Request, Response> {
    return ({ request }, done) => {
      requests.push({ call, message: request });
      if (response instanceof Refusal) done(wireError(response));
      else if (response === undefined)
        done(wireError(new Refusal(undefined, 'not scripted', grpc.status.UNIMPLEMENTED)));
      else done(null, response);
    };
  }

  const handlers: AgentHandlers = {
    async Capture(call) {
      requests.push({ call: 'Capture', message: call.request });
      call.on('cancelled', () => {
        hangUps += 1;
      });
      try {
        for await (const event of script.events?.(call.request, agent) ?? []) {
          const captureId = call.request.captureId;
          if (!call.write({ captureId, atMs: EVENT_TIME_MS, ...event })) {
            await once(call, 'drain');
          }
          if (call.cancelled) return;
        }
        call.end();
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        // Not destroy(): a destroyed stream never sends its status, and the caller would wait for ever.
        call.emit('error', wireError(error));
      }
    },
    ListContainers: unary('ListContainers', script.containers),
    GetCapture: unary('GetCapture', script.capture),
    ListCaptures: unary('ListCaptures', script.captures),
    Cancel: unary('Cancel', script.cancelled),
    Doctor: unary('Doctor', script.doctor),
    GetLogLevel: unary('GetLogLevel', script.logLevel),
    SetLogLevel: unary('SetLogLevel', script.logLevel),
  };
  server.addService(loadExhibit().Agent.service, { ...handlers });
  await new Promise<void>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync(`unix:${socket}`, credentials, (error) => (error === null ? resolve() : reject(error)));
  });
  return agent;
}

/** 2026-03-01T12:00:00.000Z */
export const EVENT_TIME_MS = 1772366400000;

function wireError(refusal: Refusal): grpc.ServiceError {
  const metadata = new grpc.Metadata();
  if (refusal.code !== undefined) metadata.set('exhibit-code', refusal.code);
  return Object.assign(new Error(refusal.message), { code: refusal.status, details: refusal.message, metadata });
}

export const CAPTURE_ID = '019cab12-7b00-7a10-8000-5f2c0a7e9b11';

/** A capture that ended well, to be varied. */
export function someCapture(over: Capture = {}): Capture {
  return {
    captureId: CAPTURE_ID,
    state: 'complete',
    target: 'prod/web-0/app',
    scope: 'container',
    caseId: 'IR-7',
    reason: 'alert',
    bundleUrl: `file:///evidence/c1/n1/${CAPTURE_ID}`,
    startedAtMs: EVENT_TIME_MS,
    finishedAtMs: EVENT_TIME_MS + 4_500,
    storedBytes: 5_242_880,
    gapCount: 0,
    pauseMs: 41.5,
    error: '',
    stages: [someStage({ stage: 'processes' }), someStage({ stage: 'memory', pauseMs: 41.5, storedBytes: 5_232_640 })],
    ...over,
  };
}

export function someStage(over: NonNullable<Capture['stages']>[number]): NonNullable<Capture['stages']>[number] {
  return {
    stage: 'processes',
    status: 'captured',
    reason: '',
    storedBytes: 10_240,
    wallMs: 1200,
    pauseMs: 0,
    gapCount: 0,
    ...over,
  };
}

/** The events of a whole capture. */
export async function* wholeCapture(ended: Capture): AsyncGenerator<CaptureEvent> {
  const stages = ended.stages ?? [];
  const names = stages.map((stage) => stage.stage ?? '');
  yield { accepted: { target: ended.target ?? '', sinkUrl: ended.bundleUrl ?? '', stages: names, created: true } };
  for (const stage of stages) {
    const name = stage.stage ?? '';
    yield { stageStarted: { stage: name } };
    yield { atMs: EVENT_TIME_MS + 1000, stageProgress: { stage: name, doneBytes: 1_048_576, totalBytes: 4_194_304 } };
    yield { atMs: EVENT_TIME_MS + 2000, stageEnded: stage };
  }
  yield { ended };
}
