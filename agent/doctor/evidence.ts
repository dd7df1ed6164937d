import type { ClockOffset } from '../../evidence/custody.ts';
import type { HostRecord } from '../../evidence/manifest.ts';
import type { Trial } from '../sign/trial.ts';
import { S3_SKEW_LIMIT_MS, skewWords } from '../sink/s3-clock.ts';
import type { SinkRights } from '../sink/sink.ts';
import { type Check, line } from './check.ts';

/** What makes evidence count: where it goes, who can change it, who signed it, when it was. */

/** `why`: what the sink's own check failed with. */
export function checkSink(url: string, why: string | undefined): Check {
  const say = line('evidence', 'sink');
  if (why === undefined) return say.ok(`${url} takes evidence`, 'artifacts can be stored');
  return say.failure(
    why,
    'a capture would fail before it begins',
    'check sink in the configuration and the rights in docs/sinks.md',
  );
}

/** Every sink of the agent. One that takes nothing spoils no capture as long as another one does. */
export function checkSinks(
  found: readonly { readonly name: string; readonly url: string; readonly why: string | undefined }[],
): Check[] {
  const working = found.filter(({ why }) => why === undefined).length;
  return found.map(({ name, url, why }) => {
    const check = ofSink(checkSink(url, why), name, found.length);
    if (why === undefined || working === 0) return check;
    return { ...check, status: 'warning', meaning: 'captures are stored in the other sinks alone' };
  });
}

/** The line of one of `count` sinks: with its name where there are several, so that no two lines have one name. */
export const ofSink = (check: Check, name: string, count: number): Check =>
  count === 1 ? check : { ...check, name: `${check.name}:${name}` };

export function checkAppendOnly(url: string, rights: SinkRights): Check {
  const say = line('evidence', 'append-only');
  if (!url.startsWith('s3:')) {
    return say.warning(
      `${url} is a folder`,
      'whoever is root on this node can change and remove evidence, and it is lost with the node',
      'use s3:// with Object Lock, or carry bundles away after each capture',
    );
  }
  const words = { refused: 'refused', allowed: 'ALLOWED', unknown: 'not known' } as const;
  const kept = KEPT[rights.retention];
  const found = `list ${words[rights.list]}, read ${words[rights.read]}, delete not tried; ${kept.found}`;
  const faults: [meaning: string, mend: string][] = [];
  if (rights.list === 'allowed' || rights.read === 'allowed') {
    const verbs = [rights.list === 'allowed' ? 'list' : '', rights.read === 'allowed' ? 'read' : ''].filter(Boolean);
    faults.push([
      `whoever takes over this node can ${verbs.join(' and ')} evidence`,
      'allow the agent s3:PutObject and s3:AbortMultipartUpload alone (docs/sinks.md)',
    ]);
  }
  if (rights.lockMissing === true) {
    return say.failure(
      `${found}; sink.objectLock is configured and the bucket has no Object Lock`,
      'a capture would fail before it begins: its evidence would not be locked',
      'enable Object Lock on the bucket (aws s3api put-object-lock-configuration, versioning first), or remove sink.objectLock',
    );
  }
  if (kept.fault !== undefined) faults.push(kept.fault);
  if (rights.overwrites) {
    faults.push([
      'sink.ifNoneMatch is off: nothing keeps an object from being replaced',
      'set it to true where the server knows it',
    ]);
  }
  if (faults.length > 0) {
    return say.warning(found, faults.map(([meaning]) => meaning).join('; '), faults.map(([, mend]) => mend).join('; '));
  }
  const open = rights.read === 'unknown' ? '; whether it may read shows after the first capture' : '';
  return say.ok(found, `the agent adds to the evidence and cannot look at it${open}`);
}

const KEPT: Record<
  SinkRights['retention'],
  { readonly found: string; readonly fault?: [meaning: string, mend: string] }
> = {
  locked: { found: 'Object Lock keeps what is stored' },
  versioned: {
    found: 'versions are kept, without Object Lock',
    fault: ['versions can be removed by whoever has the right', 'give the bucket Object Lock with a default retention'],
  },
  none: {
    found: 'the bucket keeps no versions',
    fault: [
      'what is stored can be replaced or removed by whoever has the right',
      'give the bucket versioning and Object Lock',
    ],
  },
  unknown: { found: 'retention not told to this identity' },
};

/** `keys`: every configured key, after it was asked to sign. */
export function checkSigning(keys: readonly Trial[]): Check {
  const say = line('evidence', 'signing');
  const failed = keys.filter(({ why }) => why !== undefined);
  if (keys.length === 0) {
    return say.warning(
      'a key made at start',
      'a bundle shows damage, but not who made it',
      'set signing.keyFile to an Ed25519 private key (openssl genpkey -algorithm ed25519)',
    );
  }
  if (failed.length === 0) {
    return say.ok(
      keys.map(({ name }) => name).join(', '),
      `bundles are sealed with ${keys.length === 1 ? 'this key' : 'these keys'}`,
    );
  }
  const found = failed.map(({ name, why }) => `${name}: ${why}`).join('; ');
  const mend = 'mend signing in the configuration, or the rights of the key (docs/trust.md)';
  if (failed.length < keys.length) return say.warning(found, 'bundles are sealed without these keys, and say so', mend);
  return say.failure(
    found,
    'no configured key signs: bundles show damage, but not who made them, and without a key file the agent does not start',
    mend,
  );
}

/** `authorities`: every configured one, after it was asked for a timestamp. */
export function checkTimestamp(authorities: readonly Trial[]): Check {
  const say = line('evidence', 'timestamp');
  const failed = authorities.filter(({ why }) => why !== undefined);
  if (authorities.length === 0) {
    return say.warning(
      'no authority is asked',
      'only this node’s clock says when a bundle was sealed',
      'set signing.timestamp.url to an RFC 3161 time-stamping authority (docs/trust.md)',
    );
  }
  if (failed.length === 0) {
    return say.ok(authorities.map(({ name }) => name).join(', '), 'an authority says when a bundle was sealed');
  }
  const found = failed.map(({ name, why }) => (why?.includes(name) === true ? why : `${name}: ${why}`)).join('; ');
  const meaning =
    failed.length === authorities.length
      ? 'bundles are sealed without a timestamp, and say so'
      : 'the others are asked, one after the other';
  return say.warning(found, meaning, 'check the address, that the node may reach it, and the clock line');
}

/** Beyond it certificates, tokens and signatures of requests begin to fail; people who compare logs are misled long before. */
const CLOCK_DOUBT_MS = 5_000;

/** `others`: how the clock stands to those of stores and authorities, each with what it may be wrong by. */
export function checkClock(
  { wall, synchronised, estimatedErrorUs }: HostRecord['clock'],
  others: readonly ClockOffset[] = [],
): Check {
  const say = line('evidence', 'clock');
  const error = estimatedErrorUs === undefined ? '' : ` within ${estimatedErrorUs / 1000} ms as the kernel estimates`;
  const state =
    synchronised === true
      ? `synchronised${error}`
      : synchronised === undefined
        ? 'the kernel cannot be asked'
        : 'not synchronised';
  const off = others.find(({ offsetMs, uncertaintyMs }) => Math.abs(offsetMs) - uncertaintyMs > CLOCK_DOUBT_MS);
  if (off !== undefined) {
    const refused = Math.abs(off.offsetMs) - off.uncertaintyMs > S3_SKEW_LIMIT_MS;
    return say.warning(
      `the clock is ${skewWords(off)} that of ${off.source}; ${state}, ${wall}`,
      `times in the bundle are off by that, which is recorded${refused ? '; S3 refuses what is signed by this clock, and tokens and certificates seem expired or not yet valid' : ''}`,
      'set the clock of the node, and run chrony or systemd-timesyncd there (chronyc tracking; on EC2 169.254.169.123)',
    );
  }
  const [agrees] = others;
  const found = agrees === undefined ? `${state}, ${wall}` : `${state}, ${wall}, as ${agrees.source} has it`;
  if (synchronised === true) return say.ok(found, 'times can be compared with other machines');
  return say.warning(
    found,
    agrees === undefined
      ? 'times in the bundle may be off; the offset is not known'
      : 'times in the bundle are right now, and nobody keeps them so',
    'run chrony or systemd-timesyncd on the node',
  );
}
