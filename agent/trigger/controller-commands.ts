import type { Logger } from 'pino';
import { validate as isUuid } from 'uuid';
import { explain, isExhibitError } from '../../evidence/error.ts';
import { BREAKS_A_LINE } from '../../evidence/request-words.ts';
import type { AgentMessage } from '../../proto/gen/exhibit/controller/v1/AgentMessage.ts';
import type { CaptureCommand__Output } from '../../proto/gen/exhibit/controller/v1/CaptureCommand.ts';
import type { Requester__Output } from '../../proto/gen/exhibit/controller/v1/Requester.ts';
import type { CaptureRequest__Output } from '../../proto/gen/exhibit/v1/CaptureRequest.ts';
import type { CaptureRequest, Captures, Told } from '../capture/captures.ts';

/** More than one request makes on one node; a controller that sends more at a time gets refusals. */
const MAX_STARTING = 256;
/** Names go into the journal and `request.json`. */
const MAX_NAME_CHARS = 200;
const MAX_APPROVERS = 8;

export interface CommandParts {
  readonly captures: Captures;
  /** @throws ExhibitError `usage` */
  readonly read: (message: CaptureRequest__Output) => Omit<CaptureRequest, 'requester'>;
  /** As this agent's configuration calls it. */
  readonly controllerName: string;
  /** Sends on the stream that is there when it is called; forgets it when there is none. */
  readonly say: (message: AgentMessage) => void;
  /** Tells what happened so far, where the stream has room for it. */
  readonly retell: (past: readonly Told[]) => Promise<void>;
  readonly log: Logger;
}

/**
 * What the controller commands, over all streams: a start that is under way when a stream is cut goes on, and its end is told
 * on the next one.
 */
export class Commands {
  readonly #parts: CommandParts;
  readonly #starting = new Set<string>();
  readonly #cancelled = new Set<string>();

  constructor(parts: CommandParts) {
    this.#parts = parts;
  }

  async capture({ request, requester, resume }: CaptureCommand__Output): Promise<void> {
    if (request === null) return;
    const captureId = request.captureId.toLowerCase();
    if (!isUuid(captureId)) {
      this.#refuse(request.captureId.slice(0, 64), 'usage', 'The command has no UUID for its capture');
      return;
    }
    this.#parts.say({ received: { captureId } });
    if (resume) return this.#resume(captureId);
    // The start that is under way answers.
    if (this.#starting.has(captureId)) return;
    if (this.#starting.size >= MAX_STARTING) {
      this.#refuse(captureId, 'rate-limited', `${MAX_STARTING} captures are being started on this node already`);
      return;
    }
    this.#starting.add(captureId);
    try {
      await this.#start(captureId, request, requester);
    } finally {
      this.#starting.delete(captureId);
      this.#cancelled.delete(captureId);
    }
  }

  cancel(captureId: string): void {
    const id = captureId.toLowerCase();
    // The registry takes prefixes, which nobody means here.
    if (!isUuid(id)) return;
    if (this.#starting.has(id)) this.#cancelled.add(id);
    this.#parts.captures.cancel(id).catch((error: unknown) => {
      if (!isExhibitError(error, 'capture-not-found'))
        this.#parts.log.warn({ captureId: id, error: explain(error) }, 'capture not cancelled');
    });
  }

  async #start(captureId: string, request: CaptureRequest__Output, requester: Requester__Output | null): Promise<void> {
    const { captures, log } = this.#parts;
    try {
      const handle = await captures.start({
        ...this.#parts.read({ ...request, captureId }),
        requester: { trigger: 'controller', identity: this.#identity(requester) },
      });
      if (this.#cancelled.has(captureId)) this.cancel(captureId);
      // What is new was told while it happened.
      if (!handle.created) await this.#resume(captureId);
    } catch (error) {
      // The agent is stopping: the controller will ask the next one.
      if (isExhibitError(error, 'cancelled')) return;
      log.warn({ captureId, error: explain(error) }, 'command of the controller refused');
      this.#refuse(captureId, isExhibitError(error) ? error.code : 'internal', explain(error));
    }
  }

  async #resume(captureId: string): Promise<void> {
    let past: readonly Told[] | undefined;
    try {
      past = await this.#parts.captures.recall(captureId);
    } catch {
      // A start that failed while it was waited for: whoever started it says why.
      return;
    }
    if (past === undefined)
      this.#refuse(captureId, 'capture-not-found', 'The agent knows nothing of this capture: the node was restarted');
    else await this.#parts.retell(past);
  }

  #refuse(captureId: string, code: string, reason: string): void {
    this.#parts.say({ refusal: { captureId, code, reason } });
  }

  #identity(requester: Requester__Output | null): string {
    const by = oneLine(requester?.identity ?? '') || 'somebody';
    const kind = oneLine(requester?.trigger ?? '');
    const approvers = (requester?.approvedBy ?? []).slice(0, MAX_APPROVERS).map(oneLine).filter(Boolean);
    const approved = approvers.length === 0 ? '' : `, approved by ${approvers.join(' and ')},`;
    return `${by}${kind === '' || kind === 'api' ? '' : ` (${kind})`}${approved} through controller ${this.#parts.controllerName}`;
  }
}

/** Of a controller that may be stolen: nothing that turns a printed line around or breaks it. */
function oneLine(text: string): string {
  return text.slice(0, MAX_NAME_CHARS).replaceAll(new RegExp(BREAKS_A_LINE, 'gu'), ' ').trim();
}
