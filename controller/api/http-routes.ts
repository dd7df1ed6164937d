import type { Api } from './api.ts';

/** Which HTTP request stands for which call of `exhibit.controller.v1.Controller`. A test holds this to the service's calls. */

export type CallName = keyof Api;

export interface Route {
  readonly call: CallName;
  readonly method: 'GET' | 'POST';
  /** In OpenAPI's form; what stands in braces is a field of the request's message. */
  readonly path: string;
  readonly tag: 'captures' | 'nodes' | 'cases' | 'custody' | 'service';
  readonly summary: string;
}

/** Fields that the path does not hold come from the body of a POST and from the query of a GET. */
export const ROUTES: readonly Route[] = [
  {
    call: 'CreateCapture',
    method: 'POST',
    path: '/v1/captures',
    tag: 'captures',
    summary: 'Capture one target or many',
  },
  { call: 'ListCaptures', method: 'GET', path: '/v1/captures', tag: 'captures', summary: 'List captures' },
  { call: 'GetCapture', method: 'GET', path: '/v1/captures/{captureId}', tag: 'captures', summary: 'Show a capture' },
  {
    call: 'WatchCapture',
    method: 'GET',
    path: '/v1/captures/{captureId}/watch',
    tag: 'captures',
    summary: 'Follow a capture until it ends',
  },
  {
    call: 'CancelCapture',
    method: 'POST',
    path: '/v1/captures/{captureId}/cancel',
    tag: 'captures',
    summary: 'Cancel a capture',
  },
  {
    call: 'ApproveCapture',
    method: 'POST',
    path: '/v1/captures/{captureId}/approve',
    tag: 'captures',
    summary: 'Approve a capture of another person',
  },
  {
    call: 'DenyCapture',
    method: 'POST',
    path: '/v1/captures/{captureId}/deny',
    tag: 'captures',
    summary: 'Deny a capture of another person',
  },
  { call: 'ListNodes', method: 'GET', path: '/v1/nodes', tag: 'nodes', summary: 'List nodes' },
  { call: 'ListContainers', method: 'GET', path: '/v1/containers', tag: 'nodes', summary: 'List containers' },
  { call: 'OpenCase', method: 'POST', path: '/v1/cases', tag: 'cases', summary: 'Open a case' },
  { call: 'ListCases', method: 'GET', path: '/v1/cases', tag: 'cases', summary: 'List cases' },
  { call: 'GetCase', method: 'GET', path: '/v1/cases/{caseId}', tag: 'cases', summary: 'Show a case' },
  { call: 'NoteCase', method: 'POST', path: '/v1/cases/{caseId}/notes', tag: 'cases', summary: 'Add a note to a case' },
  { call: 'CloseCase', method: 'POST', path: '/v1/cases/{caseId}/close', tag: 'cases', summary: 'Close a case' },
  { call: 'ListCustody', method: 'GET', path: '/v1/custody', tag: 'custody', summary: 'Read the audit log' },
  { call: 'WhoAmI', method: 'GET', path: '/v1/whoami', tag: 'custody', summary: 'Who the controller takes you for' },
  { call: 'GetLogLevel', method: 'GET', path: '/v1/log-level', tag: 'service', summary: 'How much this replica logs' },
  {
    call: 'SetLogLevel',
    method: 'POST',
    path: '/v1/log-level',
    tag: 'service',
    summary: 'Log more or less for a while',
  },
];

/** Names in the braces of a path. */
export const pathFields = (path: string): string[] => [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '');

/** As fastify writes it. */
export const fastifyPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ':$1');
