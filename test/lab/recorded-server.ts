/** Agents and controllers of an earlier release, as far as a command line sees them: the answers that were recorded. */
import grpc from '@grpc/grpc-js';
import { endAs, type RecordedCall, type Release, readCalls, startRawServer } from './recorded-call.ts';

/** A server of that release for the command line: each call gets the answer that the same call got, in the order of recording. */
export async function recordedServer(
  release: Release,
  file: 'agent' | 'controller',
  where: {
    readonly services: readonly grpc.ServiceDefinition[];
    readonly address: string;
    readonly credentials: grpc.ServerCredentials;
  },
): Promise<{ readonly port: number; play(during: string): void } & AsyncDisposable> {
  const calls = readCalls(release, file);
  let left: RecordedCall[] = [];
  const raw = await startRawServer({
    ...where,
    onCall(call) {
      call.on('data', () => undefined);
      call.on('end', () => {
        const at = left.findIndex(({ path }) => path === call.getPath());
        const [recorded] = at < 0 ? [] : left.splice(at, 1);
        for (const { by, bytes } of recorded?.said ?? []) if (by === 'server') call.write(bytes);
        endAs(call, recorded?.end ?? { code: grpc.status.UNIMPLEMENTED, details: 'not recorded', exhibitCode: '' });
      });
    },
  });
  return {
    port: raw.port,
    play(during) {
      left = calls.filter((one) => one.during === during);
    },
    [Symbol.asyncDispose]: () => raw[Symbol.asyncDispose](),
  };
}
