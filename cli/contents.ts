import { ExhibitError } from '../evidence/error.ts';
import { isTar } from '../evidence/layout.ts';
import type { Manifest, StoredObject } from '../evidence/manifest.ts';
import type { ListedMember } from '../evidence/members.ts';

/** Finding things in a bundle by the names people give. Pure; what is not there fails with a list of what is. */

/** An object of the bundle and, for an artifact of several, the names of the others. */
export interface Choice {
  readonly object: StoredObject;
  readonly others: readonly string[];
}

/** `name` is an artifact (its archive, or its first object) or an object's own name, with or without `.zst`. */
export function chooseObject(manifest: Manifest, name: string): Choice {
  const artifact = manifest.artifacts.find((one) => one.name === name);
  const objects = manifest.objects.filter((object) =>
    artifact === undefined
      ? object.name === name || object.name === `${name}.zst`
      : artifact.objects.includes(object.name),
  );
  const archives = objects.filter((one) => isTar(one.mediaType));
  const object = archives.find((one) => one.name === `${name}.tar.zst`) ?? archives[0] ?? objects[0];
  if (object !== undefined) {
    const others = objects.filter((one) => one !== object).map((one) => one.name);
    return { object, others };
  }
  if (artifact !== undefined) {
    const why = artifact.reason === undefined ? '' : `: ${artifact.reason}`;
    throw new ExhibitError('bundle-not-found', `Nothing is stored of ${name} (${artifact.status}${why}).`);
  }
  const artifacts = manifest.artifacts.filter((one) => one.objects.length > 0).map((one) => one.name);
  const names = manifest.objects.map((one) => one.name);
  throw new ExhibitError(
    'bundle-not-found',
    `The bundle has no artifact or object ${name}: choose from ${[...artifacts, ...names].join(', ')}.`,
  );
}

/** Before a name that is not UTF-8, as `--list --json` gives it in `pathBase64`. */
const BASE64_PREFIX = 'base64:';

/** Whether `member` is what a person means by `wanted`: its name, `./` before and `/` after it left open. */
export function isMember(member: Pick<ListedMember, 'path' | 'pathBase64'>, wanted: string): boolean {
  if (wanted.startsWith(BASE64_PREFIX) && member.pathBase64 === wanted.slice(BASE64_PREFIX.length)) return true;
  return member.path === wanted || trimmed(member.path) === trimmed(wanted);
}

function trimmed(memberPath: string): string {
  return memberPath.replace(/^(\.?\/)+/, '').replace(/\/+$/, '');
}

/** `member` if it has content of its own; fails with what it is otherwise. */
export function withContent(member: ListedMember): ListedMember {
  if (member.type === 'file') return member;
  const mend =
    member.type === 'directory'
      ? 'name a file in it, see --list'
      : member.type === 'hardlink'
        ? 'extract the whole archive and ask tar which file it links to'
        : 'extract the whole archive and use tar';
  throw new ExhibitError('usage', `${member.path} is a ${member.type} and has no bytes of its own: ${mend}.`);
}

/** One line of `--list`; a name that is not UTF-8 is followed by what to type for it. */
export function describeMember(member: ListedMember, show: (text: string) => string): string {
  const digest = member.sha256 ?? '-'.repeat(SHA256_LENGTH);
  const exact = member.pathBase64 === undefined ? '' : `  ${BASE64_PREFIX}${member.pathBase64}`;
  const name = show(`${member.path}${exact}`);
  return `${digest}  ${String(member.sizeBytes).padStart(12)}  ${show(member.type).padEnd(9)}  ${name}\n`;
}

const SHA256_LENGTH = 64;
