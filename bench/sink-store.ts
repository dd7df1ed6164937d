/**
 * What radosgw has of an object, read from its SQLite store and not through it: it reads multipart objects wrong
 * (docs/sinks.md), whoever wrote them. Runs as a program of the server's machine and holds one piece at a time.
 */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { LabS3 } from '../test/lab/s3.ts';

/** Rows of up to 8 MiB: `<upload id>.<part number>` or nothing, the piece of that part, its length in four bytes, it. */
const READ_STORE = `
import hashlib, json, sqlite3, sys
db = sqlite3.connect('file:/var/lib/lab-s3/db/dbstore-default_ns.db?mode=ro', uri=True)
table = db.execute("select name from sqlite_master where name like '%objectdata_table'").fetchone()[0]
rows = db.execute('select rowid, MultipartPartStr, PartNum from "%s" where ObjName = ?' % table, (sys.argv[1],)).fetchall()
number = lambda part: int(part.rpartition('.')[2]) if '.' in part else 0
size, digest = 0, hashlib.sha256()
for row, _, _ in sorted(rows, key=lambda row: (number(row[1] or ''), row[2])):
    data = memoryview(db.execute('select Data from "%s" where rowid = ?' % table, (row,)).fetchone()[0])[4:]
    size += len(data)
    digest.update(data)
print(json.dumps({'sizeBytes': size, 'sha256': digest.hexdigest()}))
`;

export async function digestInStore(server: LabS3, key: string): Promise<{ sizeBytes: number; sha256: string }> {
  const argv = ['--target', String(serverPid(server)), '--mount', '--root', '--', 'python3', '-c', READ_STORE, key];
  const { stdout } = await promisify(execFile)('nsenter', argv);
  return JSON.parse(stdout);
}

/** The server that listens on this endpoint. */
export function serverPid({ endpoint }: LabS3): number {
  const argument = `endpoint=${new URL(endpoint).host}`;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
      if (words[0] === 'radosgw' && words.some((word) => word.endsWith(argument))) return Number(pid);
    } catch {
      // Gone between listing and reading.
    }
  }
  throw new Error(`no radosgw serves ${endpoint}`);
}
