import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IdMaps } from '../../../agent/host/id-map.ts';
import { idsOfSpec, remapsNobody } from '../../../agent/host/id-map-spec.ts';

const SHIFTED = [{ inside: 0, outside: 131_072, length: 65_536 }];
const ALL = [{ inside: 0, outside: 0, length: 4_294_967_295 }];
const map = new IdMaps(SHIFTED, [...SHIFTED, { inside: 65_536, outside: 10, length: 1 }]);

describe('ids of a user namespace', () => {
  test('are those that the kernel’s map says, and others stay the node’s', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 65_535 }), fc.bigInt(200_000n, 2n ** 32n), (inside, outside) => {
        const owner = { uid: BigInt(131_072 + inside), gid: outside };
        expect(map.inside(owner)).toEqual({ uid: BigInt(inside), gid: outside });
      }),
    );
    expect(map.inside({ uid: 0n, gid: 10n })).toEqual({ uid: 0n, gid: 65_536n });
    expect([map.has({ uid: 131_072n, gid: 10n }), map.has({ uid: 0n, gid: 10n })]).toEqual([true, false]);
  });

  test('are none where the process has the node’s', () => {
    expect(IdMaps.of(ALL, ALL)).toBeUndefined();
    expect(IdMaps.of(SHIFTED, ALL)).toBeDefined();
    expect(IdMaps.of([], [])).toBeDefined();
    expect(IdMaps.read({ procRoot: '/proc', hostRoot: '' }, process.pid)?.uids).not.toEqual(ALL);
  });

  test('are changed in an ACL, and nothing else of it is', () => {
    const acl = Buffer.from('0200000001000600ffffffff02000400e80302000800060005000000', 'hex');
    expect(map.insideAcl(acl).toString('hex')).toBe('0200000001000600ffffffff02000400e80300000800060005000000');
  });

  test('are left alone in what is no ACL', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const acl = Buffer.from(bytes);
        expect(map.insideAcl(acl)).toHaveLength(acl.length);
        if (acl.length < 4 || acl.readUInt32LE(0) !== 2) expect(map.insideAcl(acl)).toEqual(acl);
      }),
    );
  });
});

describe('ids of an OCI spec', () => {
  const spec = (value: unknown) => idsOfSpec(Buffer.from(JSON.stringify(value)));

  test('are its mappings, or none', () => {
    const mappings = [{ containerID: 0, hostID: 131_072, size: 65_536 }];
    expect(spec({ linux: { uidMappings: mappings, gidMappings: mappings } })).toEqual(new IdMaps(SHIFTED, SHIFTED));
    expect(spec({ linux: {} })).toBe('none');
  });

  test('are unknown for what is no spec', () => {
    expect([spec({}), spec({ linux: { uidMappings: 'x' } }), idsOfSpec(Buffer.from('{'))]).toEqual(
      Array(3).fill(undefined),
    );
  });
});

describe('what Docker says of user namespaces', () => {
  test.each([
    ['{"SecurityOptions":["name=seccomp,profile=builtin","name=cgroupns"]}', true],
    ['{"SecurityOptions":["name=seccomp,profile=builtin","name=userns"]}', false],
    ['{"SecurityOptions":["name=rootless"]}', false],
    ['{"SecurityOptions":7}', false],
    ['{', false],
  ])('in %s is that nobody is remapped: %s', (text, nobody) => {
    expect(remapsNobody(Buffer.from(text))).toBe(nobody);
  });
});
