import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import grpc from '@grpc/grpc-js';
import { ExhibitError } from '../../evidence/error.ts';
import type { AgentLinkClient } from '../../proto/gen/exhibit/controller/v1/AgentLink.ts';
import { loadLink } from '../../proto/load.ts';
import type { ControllerConfig } from './controller-config.ts';

/** Commands and lookups are small; a controller that sends more is none. */
const MAX_RECEIVE_BYTES = 1024 * 1024;
/** A connection that a firewall forgot is noticed by then, and not taken for idle by most of them. */
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

/**
 * A client of its own for one connection: what it trusts and shows is read now, so that a renewed certificate counts from the
 * next connection on. Fails with `config` when a file cannot serve; its words never hold what is in the file.
 */
export async function dialController(config: ControllerConfig, nowMs: number): Promise<AgentLinkClient> {
  const { ca, cert, key } = await readCredentials(config, nowMs);
  const { serverName } = config;
  const { AgentLink } = loadLink();
  return new AgentLink(config.address, grpc.credentials.createSsl(ca, key, cert), {
    'grpc.max_receive_message_length': MAX_RECEIVE_BYTES,
    'grpc.keepalive_time_ms': KEEPALIVE_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    // Otherwise a later connection would be the one that was made with the certificate before.
    'grpc.use_local_subchannel_pool': 1,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
    ...(serverName === undefined
      ? {}
      : { 'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName }),
  });
}

/** In PEM. `onOwn` hears of the agent's certificate before it is judged. Fails as `dialController` does. */
export async function readCredentials(
  config: ControllerConfig,
  nowMs: number,
  onOwn: (own: X509Certificate) => void = () => undefined,
): Promise<{ ca: Buffer; cert: Buffer; key: Buffer }> {
  const [ca, cert, key] = await Promise.all([
    readPem('controller.caFile', config.caFile),
    readPem('controller.certFile', config.certFile),
    readPem('controller.keyFile', config.keyFile),
  ]);
  certificateIn('controller.caFile', config.caFile, ca);
  const own = certificateIn('controller.certFile', config.certFile, cert);
  onOwn(own);
  checkOwn(config, { own, key, nowMs });
  return { ca, cert, key };
}

async function readPem(key: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new ExhibitError('config', `Cannot read ${key} ${file}`, { cause });
  }
}

function certificateIn(key: string, file: string, pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new ExhibitError('config', `${key} ${file} holds no certificate in PEM`);
  }
}

function checkOwn(
  { certFile, keyFile }: ControllerConfig,
  { own, key, nowMs }: { readonly own: X509Certificate; readonly key: Buffer; readonly nowMs: number },
): void {
  let fits: boolean;
  try {
    fits = own.checkPrivateKey(createPrivateKey(key));
  } catch {
    throw new ExhibitError('config', `controller.keyFile ${keyFile} holds no private key in PEM`);
  }
  if (!fits) throw new ExhibitError('config', `${keyFile} is not the key of the certificate in ${certFile}`);
  if (own.validToDate.getTime() <= nowMs)
    throw new ExhibitError('config', `The certificate in ${certFile} expired at ${own.validTo}; renew it`);
  if (own.validFromDate.getTime() > nowMs)
    throw new ExhibitError(
      'config',
      `The certificate in ${certFile} is not valid before ${own.validFrom}; is the node's clock right?`,
    );
}
