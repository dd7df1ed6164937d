/**
 * `node volumes-waiting-child.ts ORDER`: reads one mount of a file system that may wait for ever, so that the agent need not.
 * It answers on standard output, see volumes-waiting.ts, and is killed when it stands still.
 */
import { IdMaps } from '../host/id-map.ts';
import { reachMounts } from '../host/mount-reach.ts';
import { openMountSpace } from '../host/mount-space.ts';
import { asPid } from '../runtime/runtime.ts';
import type { TextObject } from './collector.ts';
import { VolumesBudget } from './volumes-budget.ts';
import { captureVolume } from './volumes-capture.ts';
import type { WaitingLine, WaitingOrder } from './volumes-waiting.ts';

const order = JSON.parse(process.argv[2] ?? '{}') as WaitingOrder;
// Writes to a pipe are synchronous on Linux, so the agent's pace is this process' pace.
const say = (line: WaitingLine): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const textOf = (name: 'inventory' | 'body'): TextObject => ({
  line: async (text) => say(name === 'inventory' ? { inventory: text } : { body: text }),
  commit: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
});

using space = openMountSpace(order.host, asPid(order.pid));
const mount = space.table.find(({ id }) => id === order.mountId);
if (mount === undefined || space.namespace !== order.namespace) throw new Error('the mount is gone');
const [reached] = await reachMounts(space, [mount], () => true);
if (reached === undefined || !('fd' in reached)) throw new Error(reached?.why ?? 'the mount cannot be reached');
using copy = reached;
const signal = new AbortController().signal;
const outcome = await captureVolume({
  context: { gap: (gap) => say({ gap }), progress: () => undefined, read: () => undefined, signal },
  volume: { number: order.number, mount, decision: { notStored: 'class', entries: order.entries } },
  fd: copy.fd,
  outputs: {
    layer: {
      add: () => Promise.reject(new Error('nothing of such a mount is stored')),
      commit: async () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    },
    inventory: textOf('inventory'),
    body: textOf('body'),
  },
  budget: new VolumesBudget(0),
  fileBytes: 0,
  usedBytes: undefined,
  // Nothing of such a mount is read that could be judged.
  examine: () => undefined,
  ids: IdMaps.read(order.host, order.pid),
});
say({ end: outcome });
