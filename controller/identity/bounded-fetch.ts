import { ExhibitError } from '../../evidence/error.ts';

/** What is asked of an issuer: a GET without redirects, whose answer is 200 and bounded. The caller's signal bounds the time, of the body too. */
export type Fetch = (
  url: string,
  init: { readonly signal?: AbortSignal; readonly headers?: Headers },
) => Promise<Response>;

/** Key sets of large issuers are 10 KiB. */
const MAX_BYTES = 512 * 1024;

export const boundedFetch: Fetch = async (url, { signal, headers }) => {
  const response = await fetch(url, {
    redirect: 'error',
    ...(signal === undefined ? {} : { signal }),
    ...(headers === undefined ? {} : { headers }),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new ExhibitError('unauthenticated', `${new URL(url).host} answers ${response.status}.`);
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body ?? []) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_BYTES)
      throw new ExhibitError('unauthenticated', `${new URL(url).host} answers more than ${MAX_BYTES} bytes.`);
    chunks.push(chunk);
  }
  return new Response(Buffer.concat(chunks));
};
