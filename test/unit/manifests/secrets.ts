/** What an operator makes; the manifests name them and have none. */
export const SECRETS: readonly string[] = [
  'exhibit-agent-tls',
  'exhibit-agents-ca',
  'exhibit-controller-tls',
  'exhibit-operators-ca',
  'exhibit-postgres',
];
