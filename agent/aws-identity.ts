import { connect } from 'node:net';
import { errnoOf, explain } from '../evidence/error.ts';
import { startOfFile } from './host/own-file.ts';

/**
 * Who the agent is for AWS, in words. The SDK tries source after source and says "Could not load credentials from any providers", or
 * only ENOENT: what a person has to mend is in the pod's environment, which its token and its link to the service account come by.
 */

/** Set by EKS Pod Identity (an association) and by IRSA (an annotation) when the pod is made, and never later. */
export interface IdentitySource {
  readonly kind: 'pod-identity' | 'irsa' | 'keys' | 'none';
  /** The token that the pod shows; undefined where there is none. */
  readonly tokenFile: string | undefined;
  /** Of IRSA. */
  readonly role: string | undefined;
  /** Of Pod Identity: who is asked. */
  readonly endpoint: string | undefined;
}

/** As the SDK's chain chooses: keys before IRSA before Pod Identity. */
function identitySource(env: NodeJS.ProcessEnv): IdentitySource {
  const given = (name: string) => (env[name] === '' ? undefined : env[name]);
  const none = { tokenFile: undefined, role: undefined, endpoint: undefined };
  if (given('AWS_ACCESS_KEY_ID') !== undefined) return { kind: 'keys', ...none };
  const [webToken, role] = [given('AWS_WEB_IDENTITY_TOKEN_FILE'), given('AWS_ROLE_ARN')];
  if (webToken !== undefined) return { kind: 'irsa', ...none, tokenFile: webToken, role };
  const endpoint = given('AWS_CONTAINER_CREDENTIALS_FULL_URI');
  if (endpoint === undefined) return { kind: 'none', ...none };
  return { kind: 'pod-identity', ...none, endpoint, tokenFile: given('AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE') };
}

/** What was seen of a source after it gave nothing. */
export interface IdentityFacts extends IdentitySource {
  /** Why the token cannot be read, as an errno name. */
  readonly tokenErrno: string | undefined;
  /** When the token ends, ms since the epoch; undefined: it does not say. */
  readonly tokenUntilMs: number | undefined;
  /** Why nobody is at the endpoint, as an errno name; undefined: somebody is, or there is none. */
  readonly endpointErrno: string | undefined;
  readonly nowMs: number;
  /** The SDK's own words; empty where it has none. */
  readonly said: string;
}

const REMAKE = 'and make the pods anew (kubectl -n exhibit rollout restart daemonset exhibit-agent)';
const ASSOCIATE =
  'associate a role with the service account exhibit-agent of the namespace exhibit (aws eks create-pod-identity-association; manifests/overlays/eks-pod-identity)';
const ANNOTATE =
  'annotate the service account exhibit-agent with eks.amazonaws.com/role-arn (manifests/overlays/eks-irsa)';

/** One sentence: what is missing, and who grants it. Pure. */
export function identityWords(facts: IdentityFacts): string {
  const { kind, said } = facts;
  switch (kind) {
    case 'none':
      return `no credentials were found: the pod has neither EKS Pod Identity (AWS_CONTAINER_CREDENTIALS_FULL_URI is not set) nor IRSA (AWS_WEB_IDENTITY_TOKEN_FILE is not set), and the node's IMDS gives it none (a hop limit of 1 keeps it from pods); ${ASSOCIATE}, or ${ANNOTATE}, ${REMAKE}`;
    case 'keys':
      return `no credentials were found: AWS_ACCESS_KEY_ID is set and what goes with it cannot be used${inBrackets(said)}; set AWS_SECRET_ACCESS_KEY too, or neither`;
    case 'pod-identity':
      return `EKS Pod Identity gave no credentials: ${podIdentityWords(facts)}`;
    case 'irsa':
      return `IRSA gave no credentials: ${irsaWords(facts)}`;
    default:
      return kind satisfies never;
  }
}

const inBrackets = (said: string): string => (said === '' ? '' : ` (${said})`);

function tokenWords({ tokenFile, tokenErrno, tokenUntilMs, nowMs }: IdentityFacts): string | undefined {
  if (tokenErrno === 'ENOENT')
    return `its token ${tokenFile} is not there; see that the pod has the projected volume which the webhook adds, ${REMAKE}`;
  if (tokenErrno !== undefined) return `its token ${tokenFile} cannot be read (${tokenErrno}); run the agent as root`;
  if (tokenUntilMs !== undefined && tokenUntilMs < nowMs) {
    return `its token ended at ${new Date(tokenUntilMs).toISOString()}, and the node's clock says ${new Date(nowMs).toISOString()}; kubelet renews it while it runs: see the node's clock and kubelet`;
  }
  return undefined;
}

function podIdentityWords(facts: IdentityFacts): string {
  const { endpoint, endpointErrno, said } = facts;
  if (facts.tokenFile === undefined)
    return `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE is not set; leave both variables to EKS, ${REMAKE}`;
  const token = tokenWords(facts);
  if (token !== undefined) return token;
  if (endpointErrno !== undefined) {
    return `nobody answers at ${endpoint} (${endpointErrno}); install the add-on eks-pod-identity-agent, see that it runs on this node, and let a NetworkPolicy allow 169.254.170.23 port 80`;
  }
  return `its agent on this node refused${inBrackets(said)}; see that the association still exists and that its role trusts pods.eks.amazonaws.com with sts:AssumeRole and sts:TagSession`;
}

function irsaWords(facts: IdentityFacts): string {
  const { role, said } = facts;
  if (role === undefined) return `AWS_ROLE_ARN is not set beside AWS_WEB_IDENTITY_TOKEN_FILE; ${ANNOTATE}, ${REMAKE}`;
  const token = tokenWords(facts);
  if (token !== undefined) return token;
  if (/not authorized to perform|AccessDenied/i.test(said)) {
    return `${role} may not be assumed by this service account; its trust policy must name the cluster's OIDC provider and system:serviceaccount:exhibit:exhibit-agent (${ANNOTATE.replace('annotate', 'see the annotation of')})`;
  }
  if (/ExpiredToken|token.*expired|InvalidIdentityToken|No OpenIDConnect provider/i.test(said)) {
    return `STS does not take its token${inBrackets(said)}; make the cluster's OIDC provider known to IAM, and see the node's clock`;
  }
  return `STS did not give ${role}${inBrackets(said)}; see that the node reaches sts.REGION.amazonaws.com (a VPC endpoint where there is no way out), and ${ANNOTATE.replace('annotate', 'the annotation of')}`;
}

/** A projected token is some 1.2 KB. */
const MAX_TOKEN_BYTES = 64 * 1024;
/** On the node itself. */
const PROBE_MS = 1_000;

/** After a failure: reads the end of the token, and tries whether somebody is at the endpoint. Never throws; 1 s at most. */
export async function lookAtIdentity(env: NodeJS.ProcessEnv, error: unknown, nowMs: number): Promise<IdentityFacts> {
  const source = identitySource(env);
  const { tokenFile, endpoint } = source;
  const token = tokenFile === undefined ? {} : await lookAtToken(tokenFile);
  return {
    ...source,
    tokenErrno: token.errno,
    tokenUntilMs: token.untilMs,
    endpointErrno: endpoint === undefined ? undefined : await probe(endpoint),
    nowMs,
    said: saidBy(error),
  };
}

async function lookAtToken(file: string): Promise<{ errno?: string; untilMs?: number }> {
  try {
    const text = (await startOfFile(file, MAX_TOKEN_BYTES)).toString('latin1');
    // RFC 7519: header, claims and signature, in base64url. Nothing of it is ever shown but `exp`, in seconds.
    const claims: unknown = JSON.parse(Buffer.from(text.split('.')[1] ?? '', 'base64url').toString());
    const until = typeof claims === 'object' && claims !== null && 'exp' in claims ? claims.exp : undefined;
    return typeof until === 'number' && until > 0 && until < MAX_SECONDS ? { untilMs: until * 1000 } : {};
  } catch (error) {
    const errno = errnoOf(error);
    return errno === undefined ? {} : { errno };
  }
}

/** What a Date can hold, in seconds. */
const MAX_SECONDS = 8_640_000_000_000;

async function probe(endpoint: string): Promise<string | undefined> {
  if (!URL.canParse(endpoint)) return 'EINVAL';
  const { hostname, port, protocol } = new URL(endpoint);
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const usual = protocol === 'https:' ? 443 : 80;
  const socket = connect({ host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? usual : Number(port) });
  socket.setTimeout(PROBE_MS, () => resolve('ETIMEDOUT'));
  socket.once('connect', () => resolve(undefined));
  socket.once('error', (error) => resolve(errnoOf(error) ?? 'EIO'));
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

/** STS and the SDK say what went wrong in names, and sometimes nothing in messages; a token would be a long run of base64. */
function saidBy(error: unknown): string {
  // Of a chain that has come to its end.
  if (error instanceof Error && error.message.startsWith('Could not load credentials')) return '';
  const words = withoutTokens(error);
  return error instanceof Error && error.name !== 'Error' && !words.includes(error.name)
    ? `${error.name}: ${words}`
    : words;
}
const MOST_WORDS = 400;
const withoutTokens = (error: unknown): string =>
  explain(error)
    .replaceAll(/[A-Za-z0-9_\-.+/=]{100,}/g, '...')
    .slice(0, MOST_WORDS);

/** What the SDK is told when there are no credentials; its name is the one that all who handle such failures know. */
export class IdentityError extends Error {
  override readonly name = 'CredentialsProviderError';
}

type Provider = (options?: { forceRefresh?: boolean }) => Promise<unknown>;
interface Client {
  readonly config: { credentials: unknown };
}

/** Lets the client's own chain fail in words. Only for one that was given no credentials. */
export function explainIdentity(client: Client, env: NodeJS.ProcessEnv = process.env): void {
  const chain = client.config.credentials as Provider & object;
  const explained: Provider = async (options) => {
    try {
      return await chain(options);
    } catch (cause) {
      const facts = await lookAtIdentity(env, cause, Date.now());
      throw new IdentityError(identityWords(facts), { cause: new Error(withoutTokens(cause)) });
    }
  };
  // The chain remembers what it got and knows its client: the SDK is told so, or it would remember it a second time.
  client.config.credentials = Object.assign(explained, {
    ...{ memoized: true, configBound: true, attributed: true },
  });
}
