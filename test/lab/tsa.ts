/**
 * A time-stamping authority for tests: `openssl ts -reply` behind a small HTTP server, with a CA of its own that openssl made in a
 * temporary folder. One openssl process an answer.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const exec = promisify(execFile);

export interface Authority extends AsyncDisposable {
  /** The CA's certificate, in PEM. */
  readonly caFile: string;
  readonly ca: string;
  /** The TSA's own, in PEM. */
  readonly certificate: string;
  /** An RFC 3161 answer to an encoded request. */
  answer(request: Uint8Array): Promise<Buffer>;
}

export interface AuthorityOptions {
  /** OpenSSL's words for the TSA certificate's extensions, one a line. */
  readonly extensions?: string;
  /** A CA between the root and the TSA; the answers carry it. */
  readonly intermediate?: boolean;
  /** `YYYYMMDDHHMMSSZ` each: when the TSA's certificate is valid. Two days from yesterday unless told. */
  readonly valid?: readonly [from: string, until: string];
  /** `ec` is P-256. */
  readonly key?: 'ec' | 'rsa';
}

const CA = 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n';
const TSA = 'keyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n';

const CONFIG = `
[ca]
default_ca = it
[it]
new_certs_dir = .
database = index.txt
serial = ca-serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[tsa]
default_tsa = here
[here]
serial = tsa-serial
signer_cert = tsa.pem
signer_key = tsa.key
certs = chain.pem
signer_digest = sha256
default_policy = 1.3.6.1.4.1.55555.1
digests = sha256, sha512
accuracy = secs:1, millisecs:500
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
`;

const day = (offset: number) => new Date(Date.now() + offset * 86_400_000).toISOString().replace(/\.\d+|[-:T]/g, '');

export async function makeAuthority(options: AuthorityOptions = {}): Promise<Authority> {
  const folder = await mkdtemp(join(tmpdir(), 'exhibit-tsa-'));
  const openssl = async (...args: string[]) => void (await exec('openssl', args, { cwd: folder }));
  const key = (name: string) =>
    options.key === 'rsa'
      ? openssl('genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', name)
      : openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', name);
  const issue = async (name: string, by: string, extensions: string, [from, until] = [day(-1), day(1)]) => {
    await key(`${name}.key`);
    await openssl('req', '-new', '-key', `${name}.key`, '-subj', `/CN=lab ${name}`, '-out', `${name}.csr`);
    await writeFile(join(folder, `${name}.ext`), extensions);
    const parent =
      by === name ? ['-selfsign', '-keyfile', `${name}.key`] : ['-cert', `${by}.pem`, '-keyfile', `${by}.key`];
    await openssl(
      ...['ca', '-batch', '-config', 'openssl.cnf', '-notext', '-in', `${name}.csr`, '-out', `${name}.pem`],
      ...['-extfile', `${name}.ext`, '-startdate', from, '-enddate', until, ...parent],
    );
  };
  await writeFile(join(folder, 'openssl.cnf'), CONFIG);
  await writeFile(join(folder, 'index.txt'), '');
  await writeFile(join(folder, 'ca-serial'), '01');
  await writeFile(join(folder, 'tsa-serial'), '01');
  const dates = ['20200101000000Z', '20450101000000Z'] as const;
  await issue('root', 'root', CA, [...dates]);
  if (options.intermediate === true) await issue('middle', 'root', CA, [...dates]);
  const parent = options.intermediate === true ? 'middle' : 'root';
  const valid = options.valid === undefined ? undefined : ([...options.valid] as [string, string]);
  await issue('tsa', parent, options.extensions ?? TSA, valid);
  await writeFile(join(folder, 'chain.pem'), await readFile(join(folder, `${parent}.pem`)));
  const caFile = join(folder, 'root.pem');
  let count = 0;
  // openssl reads and writes the serial's file: one at a time.
  let before: Promise<unknown> = Promise.resolve();
  const answer = async (request: Uint8Array) => {
    count += 1;
    const [query, reply] = [`${count}.tsq`, `${count}.tsr`];
    await writeFile(join(folder, query), request);
    await openssl('ts', '-reply', '-config', 'openssl.cnf', '-queryfile', query, '-out', reply);
    return await readFile(join(folder, reply));
  };
  return {
    caFile,
    ca: await readFile(caFile, 'utf8'),
    certificate: await readFile(join(folder, 'tsa.pem'), 'utf8'),
    answer(request) {
      const answered = before.then(() => answer(request));
      before = answered.catch(() => undefined);
      return answered;
    },
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

export interface TsaServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT/` */
  readonly url: string;
  /** Requests so far. */
  readonly asked: number;
}

/** Answers as it likes; what it leaves unanswered hangs until the client or the server goes. */
export type Fault = (request: Buffer, response: ServerResponse) => void | Promise<void>;

export async function serveTsa(answer: Fault): Promise<TsaServer> {
  let asked = 0;
  const server = createServer(async (message, response) => {
    asked += 1;
    try {
      await answer(Buffer.concat(await message.toArray()), response);
    } catch {
      response.destroy();
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    url: `http://127.0.0.1:${address.port}/`,
    get asked() {
      return asked;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

export interface LabTsa extends Authority, TsaServer {}

export async function startTsa(options: AuthorityOptions = {}): Promise<LabTsa> {
  const authority = await makeAuthority(options);
  const server = await serveTsa(async (request, response) => {
    const answered = await authority.answer(request);
    response.writeHead(200, { 'content-type': 'application/timestamp-reply' }).end(answered);
  });
  return {
    ...authority,
    url: server.url,
    get asked() {
      return server.asked;
    },
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await authority[Symbol.asyncDispose]();
    },
  };
}
