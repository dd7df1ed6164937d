import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { parseConfig } from '../../../controller/config.ts';

const tls = { certFile: '/etc/tls/server.pem', keyFile: '/etc/tls/server.key', caFile: '/etc/tls/ca.pem' };
const smallest = { agents: tls, api: tls };

const parse = (config: unknown, env: NodeJS.ProcessEnv = {}) =>
  parseConfig(typeof config === 'string' ? config : stringify(config), 'controller.yaml', env);

function fault(config: unknown, env: NodeJS.ProcessEnv = {}): string {
  try {
    parse(config, env);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  throw new Error('no fault was found');
}

describe("the controller's configuration", () => {
  test('needs certificates only; everything else has a default', () => {
    const config = parse(smallest);
    expect(config.agents.listen).toBe('0.0.0.0:7443');
    expect(config.api.listen).toBe('0.0.0.0:8443');
    expect(config.store.url).toBe('sqlite:/var/lib/exhibit/controller.db');
    expect(config.captures.expiresMs).toBe(600_000);
    expect(config.approvals).toEqual([]);
    expect(config.identity).toMatchObject({ trustDomain: 'exhibit', operators: [] });
    expect(config.alerts).toBeUndefined();
  });

  test('takes rules of approval with patterns', () => {
    const { approvals } = parse({ ...smallest, approvals: [{ namespaces: ['prod', 'pay-*'] }] });
    expect(approvals).toEqual([{ clusters: ['*'], namespaces: ['prod', 'pay-*'], expiresMs: 3_600_000 }]);
  });

  test('lets the environment win over the file', () => {
    const env = {
      EXHIBIT_STORE_URL: 'sqlite:/data/c.db',
      EXHIBIT_API_LISTEN: '[::1]:9443',
      EXHIBIT_LOG_LEVEL: 'debug',
    };
    const config = parse(smallest, env);
    expect([config.store.url, config.api.listen, config.log.level]).toEqual([
      'sqlite:/data/c.db',
      '[::1]:9443',
      'debug',
    ]);
  });

  test('names every fault at once, each with its path', () => {
    const words = fault({
      agents: { ...tls, listen: 'nowhere', port: 1 },
      api: { certFile: 'relative' },
      approvals: [{ namespaces: [] }, { namespaces: ['a b'] }],
      captures: { expiresMs: 1 },
      colour: 'red',
    });
    for (const path of [
      'agents.listen: expected HOST:PORT',
      'agents.port: unknown key, expected one of the keys in docs/controller.md',
      'api.certFile: expected an absolute path, found "relative"',
      'api.keyFile: expected',
      'approvals.0.namespaces',
      'approvals.1.namespaces.0',
      'captures.expiresMs',
      'colour: unknown key',
    ])
      expect(words).toContain(path);
  });

  test('does not repeat a password that stands in the place of a URL', () => {
    const words = fault({ ...smallest, store: { url: 'mysql://exhibit:hunter2@db/exhibit' } });
    expect(words).toContain('store.url: expected');
    expect(words).not.toContain('hunter2');
  });

  test.each([
    ['no YAML', 'agents: [', 'is not valid YAML'],
    ['a list', '- a', 'the file'],
    ['nothing', '', 'agents'],
    ['too large', `# ${'x'.repeat(2 ** 20)}`, 'larger than 1 MiB'],
  ])('that is %s is refused', (_what, text, words) => {
    expect(fault(text)).toContain(words);
  });
});
