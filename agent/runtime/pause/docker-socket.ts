/** One request to Docker's socket, by node:http alone: what the guard needs of Docker, without loading dockerode. */
import { request } from 'node:http';
import { ExhibitError, explain } from '../../../evidence/error.ts';

/** Docker's answer on a container is some 10 KiB; labels and environments make it larger. */
const ANSWER_BYTES = 8 * 1024 * 1024;

export interface DockerAnswer {
  /** Of HTTP. */
  readonly status: number;
  readonly body: Buffer;
}

/** `path` without a version: Docker takes its newest. Fails with `runtime-unreachable` when no whole answer came in time. */
export async function dockerRequest(
  socketPath: string,
  method: 'GET' | 'POST',
  path: string,
  signal: AbortSignal,
): Promise<DockerAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<DockerAnswer>();
  // A connection of its own: one that was kept may have died with dockerd.
  const asked = request({ socketPath, method, path, signal, agent: false, headers: { host: 'docker' } }, (response) => {
    const chunks: Buffer[] = [];
    let sizeBytes = 0;
    response.on('data', (chunk: Buffer) => {
      sizeBytes += chunk.length;
      if (sizeBytes > ANSWER_BYTES) asked.destroy(new Error(`the answer is larger than ${ANSWER_BYTES} bytes`));
      else chunks.push(chunk);
    });
    response.on('error', reject);
    response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
  });
  asked.on('error', reject);
  asked.end();
  try {
    return await promise;
  } catch (error) {
    const why = signal.aborted ? 'no answer in time' : explain(error);
    throw new ExhibitError('runtime-unreachable', `Docker at ${socketPath} did not answer ${method} ${path}: ${why}`, {
      cause: error,
    });
  }
}
