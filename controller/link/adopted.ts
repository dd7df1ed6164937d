import { isArtifactName } from '../../evidence/layout.ts';
import type { CaptureNews__Output } from '../../proto/gen/exhibit/controller/v1/CaptureNews.ts';
import type { CaptureRow } from '../store/store.ts';
import type { Session } from './session.ts';
import { clip } from './told.ts';

/** Captures that a node began by itself, as their agent tells of them. Pure. */

/** Selectors of many labels are the longest that there are. */
const MAX_SELECTOR_CHARS = 4_096;
const MAX_NAME_CHARS = 256;

/** Who asked on the node; nothing for what was asked here. */
export function originOf(news: CaptureNews__Output): Readonly<Record<string, string>> {
  if (news.trigger === '') return {};
  const { trigger, requestedBy, selector } = news;
  return {
    trigger: clip(trigger, MAX_NAME_CHARS),
    requestedBy: clip(requestedBy, MAX_NAME_CHARS),
    selector: clip(selector, MAX_SELECTOR_CHARS),
  };
}

/** As `sent`, from where what the agent tells brings it on like any other. */
export function adopted({ node }: Session, captureId: string, news: CaptureNews__Output, nowMs: number): CaptureRow {
  const ended = news.event?.ended;
  const toldMs = Number(ended ? ended.startedAtMs : news.event?.atMs);
  // The node's clock may be anywhere.
  const beganMs = Number.isSafeInteger(toldMs) && toldMs > 0 ? Math.min(toldMs, nowMs) : nowMs;
  return {
    ...{ cluster: node.cluster, node: node.node, captureId, requestId: captureId, state: 'sent' },
    namespace: clip(news.namespace, MAX_NAME_CHARS),
    selector: clip(news.selector, MAX_SELECTOR_CHARS),
    caseId: '',
    reason: clip(ended?.reason ?? ''),
    artifacts: news.artifacts.filter(isArtifactName),
    requestedBy: clip(news.requestedBy, MAX_NAME_CHARS),
    trigger: clip(news.trigger, MAX_NAME_CHARS) || 'controller',
    ...{ createdAtMs: beganMs, sentAtMs: beganMs, acceptedAtMs: beganMs, endedAtMs: 0, expiresAtMs: 0 },
    ...{ error: '', approvals: [], cancelRequested: false, command: null, told: null, waits: false },
  };
}
