import { existsSync } from 'node:fs';
import { ExhibitError } from '../evidence/error.ts';
import { isAddress } from '../proto/address.ts';
import type { Context } from './contexts.ts';
import { contextsPath } from './contexts-path.ts';
import { DEFAULT_SOCKET } from './default-socket.ts';
import type { Session } from './session.ts';

/** Whom a command talks to: the agent on this node, or a controller. */
export type Connection =
  | { readonly kind: 'agent'; readonly socket: string }
  | { readonly kind: 'controller'; readonly controller: Omit<Context, 'name'>; readonly context: string | undefined };

/** Options that every command has. */
export interface CommonOptions {
  readonly socket?: string;
  readonly controller?: string;
  readonly context?: string;
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly tokenFile?: string;
  readonly serverName?: string;
  readonly json?: boolean;
}

/**
 * What was typed wins over the environment, that over the current context, and without any of them it is the agent of this
 * node. @throws ExhibitError `usage` for a contradiction, `config` for a broken file of contexts
 */
export async function connectionOf(options: CommonOptions, env: Session['env']): Promise<Connection> {
  if (options.socket !== undefined) {
    if (options.controller !== undefined || options.context !== undefined) {
      throw new ExhibitError(
        'usage',
        '--socket is the agent of this node and --controller is elsewhere: give only one of them.',
      );
    }
    return { kind: 'agent', socket: options.socket };
  }
  const context = options.context ?? (options.controller === undefined ? env.EXHIBIT_CONTEXT || undefined : undefined);
  const address = options.controller ?? (context === undefined ? env.EXHIBIT_CONTROLLER || undefined : undefined);
  if (address !== undefined && context === undefined && !isAddress(address)) {
    throw new ExhibitError(
      'usage',
      `${address} is not where a controller is: say HOST:PORT, such as exhibit.example.org:8443.`,
    );
  }
  if (address === undefined && context === undefined && env.EXHIBIT_SOCKET) {
    return { kind: 'agent', socket: env.EXHIBIT_SOCKET };
  }
  const named = address === undefined || context !== undefined ? await contextOf(context, env) : undefined;
  if (address === undefined && named === undefined) return { kind: 'agent', socket: DEFAULT_SOCKET };
  const { name, ...known } = named ?? { name: undefined, controller: '' };
  const controller = { ...known, ...(address === undefined ? {} : { controller: address }), ...given(options, env) };
  return { kind: 'controller', controller, context: name };
}

async function contextOf(name: string | undefined, env: Session['env']): Promise<Context | undefined> {
  if (name === undefined && !existsSync(contextsPath(env))) return undefined;
  const { contextNamed, readContexts } = await import('./contexts.ts');
  const file = await readContexts(env);
  const wanted = name ?? file.currentContext;
  return wanted === '' ? undefined : contextNamed(file, wanted);
}

function given(options: CommonOptions, env: Session['env']): Partial<Context> {
  const { ca = env.EXHIBIT_CA, cert = env.EXHIBIT_CERT, key = env.EXHIBIT_KEY } = options;
  const { tokenFile = env.EXHIBIT_TOKEN_FILE, serverName } = options;
  return {
    ...(ca ? { caFile: ca } : {}),
    ...(cert ? { certFile: cert } : {}),
    ...(key ? { keyFile: key } : {}),
    ...(tokenFile ? { tokenFile } : {}),
    ...(serverName ? { serverName } : {}),
  };
}
