/**
 * Names in the layer: OCI image-spec, layer.md, "Whiteouts". `.wh.NAME` says that NAME was deleted and `.wh..wh..opq` that
 * nothing below shines through, so nothing else may begin with `.wh.`. A container can make such a file all the same: to
 * hide it, or to make the layer delete something. It is stored under an escaped name and listed with both.
 */

const WHITEOUT = Buffer.from('.wh.');
const OPAQUE = Buffer.from('.wh..wh..opq');
const ESCAPE = Buffer.from('.exhibit-escaped');
const SLASH = Buffer.from('/');

export function join(directory: Buffer, name: Buffer): Buffer {
  return directory.length === 0 ? name : Buffer.concat([directory, SLASH, name]);
}

/** The name that a real file has in the layer. Two names never become one. */
export function memberName(name: Buffer): Buffer {
  return startsWith(name, WHITEOUT) || startsWith(name, ESCAPE) ? Buffer.concat([ESCAPE, name]) : name;
}

/** As `memberName`, for every step of a path. */
export function memberPathOf(path: Buffer): Buffer {
  let member: Buffer = Buffer.alloc(0);
  for (let at = 0; at < path.length; ) {
    const found = path.indexOf(SLASH, at);
    const end = found === -1 ? path.length : found;
    member = join(member, memberName(path.subarray(at, end)));
    at = end + 1;
  }
  return member;
}

/** The member that says `name` was deleted. */
export function whiteoutName(name: Buffer): Buffer {
  return Buffer.concat([WHITEOUT, name]);
}

/** The member that says `directory` (its member path) hides the one below. */
export function opaqueMember(directory: Buffer): Buffer {
  return join(directory, OPAQUE);
}

function startsWith(name: Buffer, prefix: Buffer): boolean {
  return name.subarray(0, prefix.length).equals(prefix);
}
