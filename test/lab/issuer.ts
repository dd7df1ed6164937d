/** An OIDC issuer for tests: discovery document, keys and tokens, on a port of 127.0.0.1. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type CryptoKey, exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose';

export interface Issuer extends AsyncDisposable {
  readonly url: string;
  /** Requests so far, by path. */
  readonly asked: readonly string[];
  /** Answers instead of it, until it is undefined again. */
  answerWith(answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined): void;
  /** Makes a new key and forgets the old one. */
  rotate(): Promise<void>;
  /** Valid for five minutes, for audience `exhibit` and subject `alice`, unless `claims` say otherwise; undefined leaves one out. */
  token(claims?: Readonly<Record<string, unknown>>, header?: { readonly kid?: string }): Promise<string>;
  /** PEM of the present key. */
  publicKey(): string;
  /** Hangs up and listens no more. */
  stop(): Promise<void>;
}

export const AUDIENCE = 'exhibit';
const LIFETIME_S = 300;

export async function startIssuer(): Promise<Issuer> {
  const asked: string[] = [];
  let instead: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  let key: { kid: string; privateKey: CryptoKey; jwk: object; spki: string };
  let count = 0;
  const rotate = async () => {
    count += 1;
    const kid = `key-${count}`;
    const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
    const spki = await exportSPKI(publicKey);
    key = { kid, privateKey, spki, jwk: { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' } };
  };
  await rotate();
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    if (instead !== undefined) return instead(request, response);
    response.setHeader('content-type', 'application/json');
    if (request.url === '/.well-known/openid-configuration')
      return response.end(JSON.stringify({ issuer: url, jwks_uri: `${url}/keys` }));
    if (request.url === '/keys') return response.end(JSON.stringify({ keys: [key.jwk] }));
    response.writeHead(404).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const url = `http://127.0.0.1:${address.port}`;
  const stop = async () => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  return {
    url,
    asked,
    answerWith: (answer) => {
      instead = answer;
    },
    rotate,
    token: async (claims = {}, header = {}) => {
      const nowS = Math.floor(Date.now() / 1000);
      const usual = { iss: url, aud: AUDIENCE, sub: 'alice', iat: nowS, exp: nowS + LIFETIME_S };
      const payload = JSON.parse(JSON.stringify({ ...usual, ...claims }));
      return await new SignJWT(payload)
        .setProtectedHeader({ alg: 'ES256', kid: key.kid, ...header })
        .sign(key.privateKey);
    },
    publicKey: () => key.spki,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
