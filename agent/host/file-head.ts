import { readSync } from 'node:fs';
import { errnoOf } from '../../evidence/error.ts';
import { type Node, openForReading } from './directory.ts';

/** The first bytes of a regular file, at most `limitBytes`; undefined when they cannot be read. */
export function readHead(node: Node, limitBytes: number): Buffer | undefined {
  try {
    const readable = openForReading(node);
    const head = Buffer.alloc(limitBytes);
    return head.subarray(0, readSync(readable.fd, head, 0, limitBytes, 0));
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return undefined;
  }
}
