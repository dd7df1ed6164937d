import { beforeEach, vi } from 'vitest';
import { RENDER_TIMEOUT_MS, renderObstacle } from '../../lab/manifests.ts';

/** Gives the tests of a file the time to render, or skips them where nothing can be rendered. */
export function eachRenders(): void {
  vi.setConfig({ testTimeout: RENDER_TIMEOUT_MS });
  beforeEach((context) => {
    const reason = renderObstacle();
    if (reason !== undefined) context.skip(reason);
  });
}
