import { z } from 'zod';
import { isAddress } from '../../proto/address.ts';

const absolutePath = z.string().regex(/^\//, { error: 'an absolute path' });

/** The controller that the agent dials; docs/controller-link.md. */
export const controllerSchema = z.strictObject({
  address: z.string().refine(isAddress, { error: 'HOST:PORT' }),
  /** Who may have signed the controller's certificate. All three are PEM, and read anew for each connection. */
  caFile: absolutePath,
  certFile: absolutePath,
  keyFile: absolutePath,
  /** The name in the controller's certificate, where it is not the host of `address`. */
  serverName: z.string().min(1).max(253).optional(),
  reconnect: z
    .strictObject({
      /** The longest first pause; each failure doubles it. The pause itself is drawn between nothing and that. */
      firstMs: z.number().int().min(10).max(60_000).default(2_000),
      /** A fleet that lost its controller is back within this and the time that the handshakes take. */
      maxMs: z.number().int().min(10).max(600_000).default(15_000),
    })
    .prefault({}),
});
export type ControllerConfig = z.output<typeof controllerSchema>;
