import type { Socket } from 'node:net';

/**
 * Resolves when the socket is closed, in whatever way: `once(socket, 'close')` of node:events rejects with an error that comes before,
 * and whether the other end's reset is heard as one depends on who was faster.
 */
export async function closed(socket: Socket): Promise<void> {
  socket.on('error', () => undefined);
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
}
