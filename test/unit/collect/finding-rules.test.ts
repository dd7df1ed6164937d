import { describe, expect, test } from 'vitest';
import { judge } from '../../../agent/collect/finding-rules.ts';
import type { Judgement, LowerFacts, Subject } from '../../../agent/collect/finding-subject.ts';
import { FINDING_KINDS, type FindingKind } from '../../../evidence/file-finding.ts';
import { INNOCENT, T, TEXT } from './innocent-file.ts';

/** Each kind of finding has examples that are one, and near misses that are none. */

const DAY_NS = 86_400_000_000_000n;
const MOMENTS = { nowNs: T + DAY_NS, containerNs: T - DAY_NS };
const ELF = Buffer.from('\x7fELF\x02');
const SCRIPT = Buffer.from('#!/bin/sh\n');

type Parts = Partial<Omit<Subject, 'path' | 'head'>> & { path?: string | Buffer; head?: Buffer };

function subject({ path = 'srv/data', head = TEXT, ...parts }: Parts): Subject {
  return {
    ...INNOCENT,
    path: Buffer.from(path),
    head: () => head,
    ...parts,
  };
}

const lower = (parts: Partial<LowerFacts> = {}): LowerFacts => ({
  kind: 'file',
  mode: 0o100644n,
  uid: 0n,
  gid: 0n,
  mtimeNs: T - 100n * DAY_NS,
  sizeBytes: 10n,
  sha256: 'b',
  capability: undefined,
  ...parts,
});

/** A file of the image with another content now. */
const edited = (parts: Parts = {}, below: Partial<LowerFacts> = {}): Parts => ({
  change: 'modified',
  sizeBytes: 11n,
  lower: lower(below),
  ...parts,
});
const device = (major: number, minor: number): bigint => BigInt(major * 256 + minor);
const link = (path: string, to: string): Parts => ({ path, kind: 'symlink', linkPath: Buffer.from(to) });
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');

const all = (parts: Parts): Judgement[] => judge(subject(parts), MOMENTS);
const of = (kind: FindingKind, parts: Parts): Judgement | undefined => all(parts).find((one) => one.kind === kind);

/** What it is, what makes it so, and a part of what is then said. */
type True = readonly [what: string, parts: Parts, said: Partial<Judgement>];
type False = readonly [what: string, parts: Parts];

const EXAMPLES: Readonly<Record<Exclude<FindingKind, 'image-file-deleted'>, { are: True[]; areNot: False[] }>> = {
  timestomped: {
    are: [
      [
        'an edit with the image’s mtime put back',
        edited({ mtimeNs: T - 100n * DAY_NS }),
        { severity: 'high', reasons: ['mtime-restored'] },
      ],
      [
        'a new file that claims to be years old, touched two minutes after it was made',
        { mtimeNs: T - 900n * DAY_NS, ctimeNs: T + 120_000_000_000n },
        { severity: 'medium', reasons: ['mtime-before-birth', 'set-after-creation', 'mtime-before-container'] },
      ],
      [
        'a file of the image that was given an even older time',
        { change: 'metadata', lower: lower(), mtimeNs: T - 900n * DAY_NS },
        { reasons: ['mtime-before-birth', 'mtime-before-container'] },
      ],
      ['a file from the future', { mtimeNs: T + 9n * DAY_NS }, { reasons: ['mtime-after-change', 'mtime-in-future'] }],
      [
        'a file that was changed before it was made',
        { birthNs: T + DAY_NS },
        { reasons: ['birth-after-change', 'mtime-before-birth'] },
      ],
    ],
    areNot: [
      ['a new file with its own times', {}],
      ['a file whose mode was changed long after', { ctimeNs: T + DAY_NS }],
      [
        'a file that was copied up with the image’s mtime',
        { change: 'metadata', lower: lower(), mtimeNs: lower().mtimeNs },
      ],
      ['an edit that shows', edited()],
      ['a file system without birth times', { birthNs: 0n }],
      ['a clock that was set by a second', { mtimeNs: T + 1_000_000_000n, birthNs: T + 1_500_000_000n }],
      ['a directory, which archives date as well', { kind: 'directory', mtimeNs: T - 900n * DAY_NS }],
      [
        'a copied-up file whose content could not be compared',
        edited({ sizeBytes: 10n, mtimeNs: lower().mtimeNs, sha256: undefined }),
      ],
    ],
  },
  'set-id': {
    are: [
      ['a new setuid file of root', { mode: 0o4755 }, { severity: 'high', reasons: ['setuid'] }],
      ['a new setuid file of a user', { mode: 0o4755, uid: 1000n }, { severity: 'medium' }],
      [
        'a file of the image that gained the bit',
        { change: 'metadata', lower: lower(), mode: 0o6755 },
        { reasons: ['setuid', 'setgid'] },
      ],
      [
        'a setuid file of the image with another content',
        edited({ mode: 0o4755 }, { mode: 0o104755n }),
        { reasons: ['setuid', 'content-changed'] },
      ],
    ],
    areNot: [
      [
        'a setuid file of the image that was touched',
        { change: 'metadata', lower: lower({ mode: 0o104755n }), mode: 0o4755 },
      ],
      ['a directory that hands its group down', { kind: 'directory', mode: 0o2755 }],
      ['setgid without the right to execute, which is locking', { mode: 0o2644 }],
      ['a sticky file', { mode: 0o1755 }],
    ],
  },
  'file-capability': {
    are: [
      ['a new file with capabilities', { capability: CAPABILITY }, { severity: 'high', reasons: ['capability'] }],
      [
        'a file with the image’s capabilities and another content',
        edited({ capability: CAPABILITY }, { capability: CAPABILITY }),
        { reasons: ['capability', 'content-changed'] },
      ],
    ],
    areNot: [
      [
        'a file with the image’s capabilities that was touched',
        { change: 'metadata', capability: CAPABILITY, lower: lower({ capability: CAPABILITY }) },
      ],
      ['a file that lost them', { change: 'metadata', lower: lower({ capability: CAPABILITY }) }],
    ],
  },
  'executable-in-writable-place': {
    are: [
      [
        'a program in /tmp',
        { path: 'tmp/.x/kworker', head: ELF },
        { severity: 'high', reasons: ['elf', 'temporary-place'] },
      ],
      [
        'a script in /dev/shm',
        { path: 'dev/shm/a', head: SCRIPT },
        { severity: 'medium', reasons: ['script', 'memory-place'] },
      ],
      ['something executable in /run', { path: 'run/a', mode: 0o755 }, { severity: 'low' }],
      [
        'a library below a folder that anybody may write to',
        { path: 'srv/up/a.so', head: ELF, place: { worldWritable: true, memory: false } },
        { reasons: ['elf', 'world-writable-folder'] },
      ],
      [
        'a program on a tmpfs',
        { path: 'cache/a', head: ELF, place: { worldWritable: false, memory: true } },
        { reasons: ['elf', 'memory-place'] },
      ],
    ],
    areNot: [
      ['a program elsewhere', { path: 'opt/tmp/a', head: ELF }],
      ['a text in /tmp', { path: 'tmp/a' }],
      ['an empty file in /tmp', { path: 'tmp/a', sizeBytes: 0n, mode: 0o777 }],
      [
        'a program of the image in /tmp that was touched',
        { path: 'tmp/a', change: 'metadata', head: ELF, lower: lower() },
      ],
      ['a name that begins like a place', { path: 'tmpfiles/a', head: ELF }],
    ],
  },
  'executable-not-in-image': {
    are: [
      ['a new program', { head: ELF, mode: 0o755 }, { severity: 'medium', reasons: ['elf', 'execute-permission'] }],
      ['a library without the right to execute', { path: 'srv/a.so', head: ELF }, { reasons: ['elf'] }],
      ['a changed script', edited({ head: SCRIPT }), { severity: 'medium', reasons: ['script'] }],
      ['a text that may be executed', { mode: 0o744 }, { severity: 'low', reasons: ['execute-permission'] }],
    ],
    areNot: [
      ['a text', {}],
      [
        'a program of the image that was made executable',
        { change: 'metadata', lower: lower(), head: ELF, mode: 0o755 },
      ],
      ['a directory', { kind: 'directory', mode: 0o755 }],
      ['an empty file', { sizeBytes: 0n, mode: 0o755 }],
      ['something that was only copied up', { change: 'unchanged', lower: lower(), head: ELF, mode: 0o755 }],
    ],
  },
  'system-file-changed': {
    are: [
      [
        'a program',
        edited({ path: 'usr/bin/ls' }),
        { severity: 'high', reasons: ['program-or-library', 'content-changed'] },
      ],
      [
        'the shadow file',
        edited({ path: 'etc/shadow' }),
        { severity: 'high', reasons: ['accounts', 'content-changed'] },
      ],
      ['sshd’s configuration', edited({ path: 'etc/ssh/sshd_config' }), { reasons: ['login', 'content-changed'] }],
      [
        'a bundle of certificates',
        edited({ path: 'etc/ssl/certs/ca-certificates.crt' }),
        { reasons: ['trusted-certificates', 'content-changed'] },
      ],
      [
        'a password file for everybody',
        { path: 'etc/shadow', change: 'metadata', mode: 0o666, lower: lower() },
        { severity: 'medium', reasons: ['accounts', 'mode-or-owner'] },
      ],
    ],
    areNot: [
      ['a changed file of the application', edited({ path: 'app/usr/bin/ls' })],
      ['a new program beside the image’s', { path: 'usr/bin/new' }],
      ['the backup that useradd writes', edited({ path: 'etc/passwd-' })],
      [
        'a program whose content could not be compared',
        edited({ path: 'usr/bin/ls', sizeBytes: 10n }, { sha256: undefined }),
      ],
      ['a program that was touched', { path: 'usr/bin/ls', change: 'metadata', lower: lower() }],
    ],
  },
  persistence: {
    are: [
      ['a preloaded library', { path: 'etc/ld.so.preload' }, { severity: 'high', reasons: ['preload'] }],
      [
        'a key in somebody’s home',
        { path: 'home/web/.ssh/authorized_keys' },
        { severity: 'high', reasons: ['ssh-key'] },
      ],
      ['a cron job', { path: 'etc/cron.d/logrotate' }, { reasons: ['cron'] }],
      [
        'a link to a unit',
        link('etc/systemd/system/multi-user.target.wants/x.service', '/opt/x.service'),
        { reasons: ['unit'] },
      ],
      ['a changed .bashrc', edited({ path: 'root/.bashrc' }), { reasons: ['shell-start'] }],
      [
        'a module that Python always runs',
        { path: 'usr/lib/python3.13/site-packages/x.pth' },
        { reasons: ['interpreter-start'] },
      ],
    ],
    areNot: [
      ['the keys that are known to others', { path: 'root/.ssh/known_hosts' }],
      ['a placeholder that packages have', { path: 'etc/cron.d/.placeholder' }],
      ['a cron job that was touched', { path: 'etc/cron.d/a', change: 'metadata', lower: lower() }],
      ['the folder itself', { path: 'root/.config/systemd/user/a', kind: 'directory' }],
      ['an example of a unit', { path: 'usr/share/doc/systemd/system/a.service' }],
    ],
  },
  'same-size-edit': {
    are: [
      [
        'an edit with the mtime put back',
        edited({ sizeBytes: 10n, mtimeNs: lower().mtimeNs }),
        { severity: 'high', reasons: ['content-changed', 'mtime-kept'] },
      ],
      ['an edit that shows its time', edited({ sizeBytes: 10n }), { severity: 'low', reasons: ['content-changed'] }],
    ],
    areNot: [
      ['an edit that changes the size', edited()],
      ['the same content with another time', { change: 'metadata', lower: lower({ sha256: 'a' }) }],
      ['contents that could not be compared', edited({ sizeBytes: 10n }, { sha256: undefined })],
    ],
  },
  'hidden-name': {
    are: [
      ['a dot folder in /tmp', { path: 'tmp/.x', kind: 'directory' }, { severity: 'medium', reasons: ['dot-name'] }],
      ['a dot file beside programs', { path: 'usr/bin/.sshd' }, { reasons: ['dot-name'] }],
      ['three dots', { path: 'srv/...', kind: 'directory' }, { severity: 'high', reasons: ['blank-name'] }],
      ['dots and a blank', { path: 'srv/.. ' }, { reasons: ['blank-name'] }],
      ['a blank at the end', { path: 'usr/bin/ls ' }, { reasons: ['blank-name'] }],
      ['a name that clears the screen', { path: 'srv/a\x1b[2J' }, { reasons: ['unprintable-name'] }],
      ['a name that reads backwards', { path: 'srv/a\u202egpj.exe' }, { reasons: ['unprintable-name'] }],
    ],
    areNot: [
      ['a dot file at home', { path: 'root/.cache', kind: 'directory' }],
      ['the X server’s folder', { path: 'tmp/.X11-unix', kind: 'directory' }],
      ['a dot file deep below /usr', { path: 'usr/lib/node_modules/.bin', kind: 'directory' }],
      ['blanks within a name', { path: 'srv/a b.txt' }],
      ['letters of any language', { path: 'srv/größe-数据.txt' }],
      ['a name that is not UTF-8', { path: Buffer.from([0x61, 0xe4, 0x62]) }],
      ['a hidden file of the image', edited({ path: 'tmp/.x' })],
    ],
  },
  'device-node': {
    are: [
      ['a disk', { kind: 'block-device', rdev: device(8, 0) }, { severity: 'high', reasons: ['block-device'] }],
      [
        'the memory',
        { kind: 'character-device', rdev: device(1, 1) },
        { severity: 'high', reasons: ['memory-device'] },
      ],
      [
        'another null',
        { kind: 'character-device', rdev: device(1, 3) },
        { severity: 'low', reasons: ['usual-device'] },
      ],
      [
        'any other',
        { kind: 'character-device', rdev: device(10, 200) },
        { severity: 'medium', reasons: ['other-device'] },
      ],
    ],
    areNot: [
      ['a FIFO', { kind: 'fifo' }],
      ['a socket', { kind: 'socket' }],
      [
        'a device of the image with another mode',
        { kind: 'character-device', change: 'metadata', lower: lower(), rdev: device(10, 200) },
      ],
      ['a whiteout', { kind: 'character-device', change: 'deleted', rdev: 0n }],
    ],
  },
  'log-silenced': {
    are: [
      [
        'a history that leads nowhere',
        link('root/.bash_history', '/dev/null'),
        { severity: 'high', reasons: ['log-or-history', 'link-to-nothing'] },
      ],
      [
        'a log of the image that was emptied',
        edited({ path: 'var/log/auth.log', sizeBytes: 0n }),
        { severity: 'medium', reasons: ['log-or-history', 'emptied'] },
      ],
    ],
    areNot: [
      ['a log that goes to the container’s own', link('var/log/nginx/access.log', '/dev/stdout')],
      ['a new log that is empty', { path: 'var/log/app.log', sizeBytes: 0n }],
      ['a link to /dev/null that is no log', link('etc/systemd/system/x.service', '/dev/null')],
      ['a log that grew', edited({ path: 'var/log/auth.log' })],
    ],
  },
};

describe.for(Object.entries(EXAMPLES))('%s', ([name, { are, areNot }]) => {
  const kind = FINDING_KINDS.find((known) => known === name) ?? 'timestomped';
  test.for(are)('is said of %s', ([, parts, said]) => {
    expect(of(kind, parts)).toMatchObject({ kind, ...said });
  });

  test.for(areNot)('is not said of %s', ([, parts]) => {
    expect(of(kind, parts)).toBeUndefined();
  });
});

describe('where the lower layers could not be read', () => {
  test('what is found weighs little and says why', () => {
    const said = all({ path: 'tmp/a', change: undefined, head: ELF, mode: 0o4755 });
    expect(said.map(({ kind }) => kind)).toEqual(['set-id', 'executable-in-writable-place', 'executable-not-in-image']);
    for (const { severity, reasons } of said) {
      expect(severity).toBe('low');
      expect(reasons.at(-1)).toBe('lower-layers-unknown');
    }
  });
});

test('a file of the application that was changed openly is nothing to look at', () => {
  expect(all(edited({ path: 'app/config.ini' }))).toEqual([]);
});
