/** Where a controller listens or is dialled: `HOST:PORT`, an IPv6 address in brackets, since the last colon parts the port. */
const ADDRESS =
  /^(?:\[([0-9A-Fa-f:.]{2,45}(?:%[0-9A-Za-z.-]{1,15})?)\]|([A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?)):(\d{1,5})$/;

const MAX_PORT = 65_535;

/** Undefined for what is none. Pure. */
export function readAddress(text: string): { readonly host: string; readonly port: number } | undefined {
  const [, bracketed, name, digits] = ADDRESS.exec(text) ?? [];
  const host = bracketed ?? name;
  const port = Number(digits);
  return host === undefined || port > MAX_PORT ? undefined : { host, port };
}

export const isAddress = (text: string): boolean => readAddress(text) !== undefined;
