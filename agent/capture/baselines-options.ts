import { z } from 'zod';
import { byteSize } from '../byte-size.ts';

/** What the agent keeps of good snapshots, to compare with; docs/diff.md. */
export const baselinesSchema = z.strictObject({
  enabled: z.boolean().default(true),
  /** Of all that are kept, in the spool's folder. One of a small container is some 10 KiB. */
  maxBytes: byteSize.default(32 * 2 ** 20),
  /** Triggers whose captures may become a baseline. */
  from: z.array(z.enum(['schedule', 'socket', 'folder', 'controller'])).default(['schedule']),
});
