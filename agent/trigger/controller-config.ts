import { z } from 'zod';

const absolutePath = z.string().regex(/^\//, { error: 'an absolute path' });

/** A host's name, an IPv4 address or an IPv6 address in brackets, and a port. */
const ADDRESS = /^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):\d{1,5}$/;

/** The controller that the agent dials; docs/controller-link.md. */
export const controllerSchema = z.strictObject({
  address: z.string().regex(ADDRESS, { error: 'HOST:PORT' }),
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
