import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { extract } from 'tar-stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requireProgram, run } from './programs.ts';
import { archiveOf, SAMPLES } from './tar-samples.ts';

/** What python3's tarfile sees, as JSON; names and attributes as latin1 of their bytes. */
const PYTHON = `
import json, sys, tarfile
out = []
with tarfile.open(sys.argv[1], encoding='utf-8', errors='surrogateescape') as tar:
    for m in tar:
        raw = lambda s: s.encode('utf-8', 'surrogateescape').decode('latin1')
        body = tar.extractfile(m).read().decode('latin1') if m.isreg() else None
        xattrs = {k[13:]: v.encode('utf-8', 'surrogateescape').decode('latin1') for k, v in m.pax_headers.items() if k.startswith('SCHILY.xattr.')}
        out.append(dict(name=raw(m.name), link=raw(m.linkname), mode=m.mode, uid=m.uid, gid=m.gid, mtime=str(m.pax_headers.get('mtime', int(m.mtime))), type=m.type.decode(), size=m.size, body=body, major=m.devmajor, minor=m.devminor, xattrs=xattrs))
print(json.dumps(out))
`;

const latin1 = (path: string | Uint8Array) => Buffer.from(path).toString('latin1');

describe('independent programs read our archives', () => {
  let folder: string;
  let archive: string;
  let bytes: Buffer;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'exhibit-tar-'));
    archive = join(folder, 'a.tar');
    bytes = (await archiveOf(SAMPLES)).bytes;
    await writeFile(archive, bytes);
  });
  afterAll(async () => rm(folder, { recursive: true, force: true }));

  it('python3 sees every name, id, date and body as it was written', (context) => {
    requireProgram(context, 'python3');
    const ran = run(['python3', '-c', PYTHON, archive]);
    expect(ran.stderr).toBe('');
    const seen: unknown = JSON.parse(ran.stdout.toString());
    expect(seen).toMatchObject(
      SAMPLES.map(({ header, body }) => ({
        name: latin1(header.path),
        link: header.linkPath === undefined ? '' : latin1(header.linkPath),
        mode: header.mode ?? 0o600,
        uid: header.uid ?? 0,
        gid: header.gid ?? 0,
        body: body === undefined ? null : body.toString('latin1'),
        major: header.deviceMajor ?? 0,
        minor: header.deviceMinor ?? 0,
      })),
    );
  });

  it('python3 sees dates before 1970 and after 2038 to the nanosecond', (context) => {
    requireProgram(context, 'python3');
    const seen: { name: string; mtime: string }[] = JSON.parse(
      run(['python3', '-c', PYTHON, archive]).stdout.toString(),
    );
    const dates = Object.fromEntries(seen.map(({ name, mtime }) => [name, mtime]));
    expect(dates).toMatchObject({
      'date-1969': '-1.5',
      'date-2039': '2177452800.123456789',
      'date-2300': '10413792000',
      dates: '0.000000005',
    });
  });

  for (const program of ['tar', 'bsdtar']) {
    it(`${program} lists every member without complaint`, (context) => {
      requireProgram(context, program);
      const ran = run([program, '-tf', archive]);
      // POSIX's way to say that a name is not UTF-8. Without it bsdtar fails; GNU tar says that it knows it not, and goes on.
      const complaints = ran.stderr.split('\n').filter((line) => line !== '' && !line.endsWith("keyword 'hdrcharset'"));
      expect({ status: ran.status, complaints }).toEqual({ status: 0, complaints: [] });
      expect(ran.stdout.toString('latin1').trim().split('\n')).toHaveLength(SAMPLES.length);
    });
  }

  it('GNU tar lists names, ids and dates to the byte', (context) => {
    requireProgram(context, 'tar');
    const listed = run(['tar', '--quoting-style=c', '-tf', archive]).stdout.toString('latin1');
    expect(listed).toContain('"bad\\377\\376.\\303"');
    expect(listed).toContain('"with\\nnewline and \\t tab"');
    const long = run(['tar', '-tvf', archive, '--numeric-owner', '--full-time']).stdout.toString();
    expect(long).toMatch(/2147483648\/4294967294 .* ids-userns/);
    // GNU tar 1.34 shows -1.5 s a second late, also in archives that it made itself from such a file.
    expect(long).toMatch(/1969-12-31 23:59:5[89].5 +date-1969/);
    expect(long).toMatch(/2039-01-01 00:00:00.123456789 date-2039/);
    expect(long).toMatch(/2300-01-01 00:00:00 +date-2300/);
    expect(long).toMatch(/259,1048575 .* disk/);
    expect(long).toMatch(/^h.* hard link to plain.txt$/m);
  });

  it('bsdtar lists ids and names to the byte', (context) => {
    requireProgram(context, 'bsdtar');
    const long = run(['bsdtar', '-tvf', archive, '--numeric-owner']).stdout.toString();
    expect(long).toMatch(/2147483648 +4294967294 .* ids-userns/);
    expect(long).toMatch(/bad\\377\\376\.\\303$/m);
    expect(long).toMatch(/Dec 31 {2}1969 date-1969/);
    expect(long).toMatch(/259,1048575/);
  });

  it('GNU tar and bsdtar extract every body as it was', (context) => {
    requireProgram(context, 'tar', 'bsdtar');
    for (const program of ['tar', 'bsdtar']) {
      for (const { header, body } of SAMPLES) {
        if (body === undefined || typeof header.path !== 'string' || header.path.includes('\n')) continue;
        const ran = run([program, '-xOf', archive, header.path]);
        expect(ran.stdout, `${program} ${header.path}`).toEqual(body);
      }
    }
  });

  it('attributes come back as they were when GNU tar restores them', async (context) => {
    requireProgram(context, 'tar', 'python3');
    const target = await mkdtemp(join('/dev/shm', 'exhibit-xattr-')).catch(() =>
      mkdtemp(join(tmpdir(), 'exhibit-xattr-')),
    );
    try {
      const read = 'import os,sys; print({n: os.getxattr(sys.argv[1], n).hex() for n in os.listxattr(sys.argv[1])})';
      const probe = `import os,sys; os.setxattr(sys.argv[1], 'user.probe', b'x')`;
      await writeFile(join(target, 'probe'), '');
      if (run(['python3', '-c', probe, join(target, 'probe')]).status !== 0)
        context.skip('this file system has no user attributes');
      run(['tar', '--xattrs', '--xattrs-include=user.*', '-xf', archive, '-C', target, 'xattrs']);
      const shown = run(['python3', '-c', read, join(target, 'xattrs')]).stdout.toString();
      expect(shown).toContain(`'user.binary': '00ff0a3d0080'`);
      expect(shown).toContain(`'user.with=sign%': '${Buffer.from('odd name').toString('hex')}'`);
      expect(shown).toContain(`'user.empty': ''`);
    } finally {
      await rm(target, { recursive: true, force: true });
    }
  });

  it('tar-stream, which other tools are made with, reads them too', async () => {
    const reader = extract();
    const names: string[] = [];
    reader.end(bytes);
    for await (const entry of reader) {
      names.push(entry.header.name);
      let bodyBytes = 0;
      for await (const chunk of entry) if (chunk instanceof Uint8Array) bodyBytes += chunk.length;
      expect(bodyBytes).toBe(entry.header.type === 'file' ? entry.header.size : 0);
    }
    expect(names).toHaveLength(SAMPLES.length);
    expect(names).toContain('ünïcödé-證據');
  });
});
