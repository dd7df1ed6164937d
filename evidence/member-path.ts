import { isUtf8 } from 'node:buffer';

/**
 * Names in archives are bytes; JSON is text. A name that is UTF-8 is itself; any other is shown with U+FFFD and kept in
 * `pathBase64`.
 */
export interface MemberPath {
  readonly path: string;
  readonly pathBase64?: string;
}

export function toBytes(path: string | Uint8Array): Buffer {
  return typeof path === 'string' ? Buffer.from(path) : Buffer.from(path.buffer, path.byteOffset, path.length);
}

export function describePath(path: string | Uint8Array): MemberPath {
  const bytes = toBytes(path);
  const text = bytes.toString('utf8');
  return isUtf8(bytes) ? { path: text } : { path: text, pathBase64: bytes.toString('base64') };
}

/** The bytes that `describePath` described. */
export function pathBytes(described: { readonly path: string; readonly pathBase64?: string | undefined }): Buffer {
  return described.pathBase64 === undefined ? Buffer.from(described.path) : Buffer.from(described.pathBase64, 'base64');
}

/** True for a relative name without `.` or `..` segments or NUL: one that stays below the folder it is joined to. */
export function staysInside(path: string): boolean {
  const segments = path.replace(/\/$/, '').split('/');
  return !path.includes('\0') && segments.every((segment) => segment !== '' && segment !== '.' && segment !== '..');
}
