import { describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { parseConfig as parseAgent } from '../../../agent/config.ts';
import { parseConfig as parseController } from '../../../controller/config.ts';
import { allPages, type Block } from './pages.ts';

/** Every configuration in the pages is one that a program starts with: a part of one is put into the least there may be. */

const AGENT = { sink: { url: 'file:///evidence' } };
const LISTENER = { certFile: '/c.pem', keyFile: '/k.pem', caFile: '/ca.pem' };
const CONTROLLER = { agents: LISTENER, api: LISTENER };

const blocks = (await allPages()).flatMap((page) => page.blocks).filter(({ language }) => language === 'yaml');

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

type Parser = (text: string, file: string, env: NodeJS.ProcessEnv) => unknown;

/** What a parser says against it. */
function objection(parser: Parser, given: Record<string, unknown>): string | undefined {
  try {
    parser(JSON.stringify(given), 'page.yaml', {});
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The sinks that a part of a configuration names, so that they are there. */
function sinksFor(part: Record<string, unknown>): object {
  if ('sink' in part || 'sinks' in part) return {};
  const names = [...JSON.stringify(part).matchAll(/"sinks":\[([^\]]*)\]/g)].flatMap(([, list = '']) => list.split(','));
  const sinks = Object.fromEntries(names.map((name) => [name.replaceAll('"', ''), { url: `file:///${name}` }]));
  return names.length === 0 ? AGENT : { sinks };
}

function faultOf({ at, text }: Block): string[] {
  const part: unknown = parse(text);
  if (!isObject(part)) return [`${at}: is no configuration`];
  const agent = objection(parseAgent, { ...sinksFor(part), ...part });
  if (agent === undefined) return [];
  const controller = objection(parseController, { ...CONTROLLER, ...part });
  if (controller === undefined) return [];
  // The page on identity shows the section without its name.
  if (objection(parseController, { ...CONTROLLER, identity: part }) === undefined) return [];
  return [`${at}: as the agent's: ${agent}; as the controller's: ${controller}`];
}

describe('a block of YAML in the pages', () => {
  test('is a configuration that the agent or the controller takes, or an object of Kubernetes', () => {
    expect(blocks.length).toBeGreaterThan(8);
    const ours = blocks.filter(({ text }) =>
      parseAllDocuments(text).some((document) => !isObject(document.toJS()) || !('apiVersion' in document.toJS())),
    );
    expect(ours.length).toBeGreaterThan(8);
    expect(ours.flatMap(faultOf)).toEqual([]);
  });
});
