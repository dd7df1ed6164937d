import { readFile } from 'node:fs/promises';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import { explain } from '../../evidence/error.ts';
import type { Session } from '../session.ts';

/**
 * The Kubernetes API as a pod sees it: reading only, with the pod's own service account. What answers there is believed to be the
 * API (its certificate is of the cluster's authority), and still never trusted with a length, a name or a wait.
 */
export interface KubernetesApi {
  /** For words: `https://10.96.0.1:443`. */
  readonly server: string;
  /** The pod's own, which is the agents'. */
  readonly namespace: string;
  /** @param path from `/api/v1/` on, with its query */
  get(path: string, signal: AbortSignal): Promise<Answer>;
}

export type Answer =
  | { readonly kind: 'document'; readonly document: unknown }
  /** Any status but 200: 401, 403, 404, and what only something else than the API would say. */
  | { readonly kind: 'refused'; readonly status: number }
  /** No answer, or none that can be read. `why` continues a sentence about the API. */
  | { readonly kind: 'away'; readonly why: string };

/** Where kubelet puts token, authority and namespace of a pod's service account. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
/** A person waits, and has an error in any case: the API answers a `get` in milliseconds. */
const ANSWER_TIMEOUT_MS = 5_000;
/** etcd takes objects of up to 1.5 MiB; a list here is of few (MAX_PODS of placement.ts). */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024;
/** Tokens have about a KiB; Node gives all headers 16 KiB. */
const MAX_TOKEN_LENGTH = 12_000;

/** Undefined outside of a pod, and in one without a service account's token. */
export async function kubernetesApi(env: Session['env']): Promise<KubernetesApi | undefined> {
  const host = env.KUBERNETES_SERVICE_HOST ?? '';
  const port = env.KUBERNETES_SERVICE_PORT || '443';
  if (!isHost(host) || !/^\d{1,5}$/.test(port)) return undefined;
  const folder = env.EXHIBIT_SERVICE_ACCOUNT || SERVICE_ACCOUNT;
  const files = ['token', 'ca.crt', 'namespace'].map((name) => readFile(path.join(folder, name), 'utf8'));
  const read = await Promise.all(files).catch(() => undefined);
  const [token = '', ca = '', namespace = ''] = read?.map((text) => text.trim()) ?? [];
  if (!/^[\x21-\x7e]+$/.test(token) || token.length > MAX_TOKEN_LENGTH || !/^[a-z0-9-]{1,63}$/.test(namespace)) {
    return undefined;
  }
  const server = `https://${net.isIPv6(host) ? `[${host}]` : host}:${port}`;
  return {
    server,
    namespace,
    get: (at, signal) => get({ host, port: Number(port), path: at, ca, headers: headersOf(token) }, signal),
  };
}

const isHost = (host: string): boolean => net.isIP(host) !== 0 || /^[A-Za-z0-9]([A-Za-z0-9.-]{0,252})$/.test(host);

const headersOf = (token: string) => ({
  authorization: `Bearer ${token}`,
  accept: 'application/json',
  'user-agent': 'exhibit',
});

/** Follows no redirection and asks no proxy. @throws the signal's reason */
async function get(options: https.RequestOptions, signal: AbortSignal): Promise<Answer> {
  const deadline = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
  try {
    const bytes = await fetchBytes(options, AbortSignal.any([signal, deadline]));
    if (typeof bytes === 'number') return { kind: 'refused', status: bytes };
    return { kind: 'document', document: JSON.parse(bytes.toString('utf8')) };
  } catch (error) {
    signal.throwIfAborted();
    if (deadline.aborted) return { kind: 'away', why: `did not answer within ${ANSWER_TIMEOUT_MS / 1000} s` };
    if (error instanceof TooLarge)
      return { kind: 'away', why: `answers more than ${MAX_ANSWER_BYTES / 1024 ** 2} MiB` };
    if (error instanceof SyntaxError) return { kind: 'away', why: 'answers what is no JSON' };
    return { kind: 'away', why: `cannot be reached (${explain(error)})` };
  }
}

class TooLarge extends Error {}

/** The body of a 200, or another status. */
function fetchBytes(options: https.RequestOptions, signal: AbortSignal): Promise<Buffer | number> {
  return new Promise((resolve, reject) => {
    const request = https.request({ ...options, agent: false, signal, minVersion: 'TLSv1.2' }, (response) => {
      const { statusCode = 0 } = response;
      if (statusCode !== 200) {
        resolve(statusCode);
        request.destroy();
        return;
      }
      const chunks: Buffer[] = [];
      let sizeBytes = 0;
      response.on('data', (chunk: Buffer) => {
        sizeBytes += chunk.length;
        chunks.push(chunk);
        if (sizeBytes > MAX_ANSWER_BYTES) request.destroy(new TooLarge());
      });
      response.once('end', () => resolve(Buffer.concat(chunks)));
      response.once('error', reject);
      response.once('aborted', () => reject(new Error('the connection ended in the middle of the answer')));
    });
    request.on('error', reject);
    request.end();
  });
}
