import type { Member, StoredObject } from './manifest.ts';
import { memberLine } from './members.ts';

/**
 * The members of one archive on their way into the manifest. A manifest is read as a whole, so the list in it is bounded;
 * when an archive passes the bound, all of its members go to a JSON-lines object beside it, and none into the manifest.
 */
export interface MemberList extends AsyncDisposable {
  add(member: Member): Promise<void>;
  /** Commits the object beside the archive, if there is one; what the archive's own record says of its members. */
  finish(): Promise<Pick<StoredObject, 'members' | 'membersIn'>>;
}

/** Eight archives of this size still make a manifest that an editor opens. */
export const MAX_LISTED_MEMBERS = 10_000;
/** As JSON. A hostile container has long names; eight times this is below MAX_MANIFEST_BYTES, indentation included. */
export const MAX_LISTED_BYTES = 4 * 1024 * 1024;

/** Where lines go; a TextObject. */
export interface LineWriter extends AsyncDisposable {
  line(text: string): Promise<void>;
  commit(): Promise<void>;
}

/** `processes.tar.zst` has its members in `processes.members.jsonl.zst`, when they are too many. */
export function membersObjectOf(archive: string): string {
  return `${archive.replace(/\.tar\.zst$/, '')}.members.jsonl.zst`;
}

export function createMemberList(archive: string, openLines: (name: string) => Promise<LineWriter>): MemberList {
  let members: Member[] = [];
  let listedBytes = 0;
  let beside: LineWriter | undefined;
  return {
    async add(member) {
      const line = memberLine(member);
      if (beside !== undefined) return beside.line(line);
      members.push(member);
      listedBytes += Buffer.byteLength(line);
      if (members.length <= MAX_LISTED_MEMBERS && listedBytes <= MAX_LISTED_BYTES) return;
      beside = await openLines(membersObjectOf(archive));
      for (const earlier of members) await beside.line(memberLine(earlier));
      members = [];
    },
    async finish() {
      if (beside === undefined) return { members };
      await beside.commit();
      return { membersIn: membersObjectOf(archive) };
    },
    async [Symbol.asyncDispose]() {
      await beside?.[Symbol.asyncDispose]();
    },
  };
}
