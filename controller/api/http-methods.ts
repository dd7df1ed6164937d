import { ALERTS_PATH } from '../alerts/path.ts';
import { ROUTES } from './http-routes.ts';

/** Which methods a path takes; none: it is not there. */

const PATHS = [
  ...ROUTES.map(({ path, method, call }) => ({
    path,
    methods: method === 'GET' && call !== 'WatchCapture' ? ['GET', 'HEAD'] : [method],
  })),
  { path: ALERTS_PATH, methods: ['POST'] },
  { path: '/v1/openapi.json', methods: ['GET', 'HEAD'] },
  { path: '/healthz', methods: ['GET', 'HEAD'] },
].map(({ path, methods }) => ({
  pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  methods,
}));

export const allowedMethods = (path: string): string[] => [
  ...new Set(PATHS.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods)),
];
