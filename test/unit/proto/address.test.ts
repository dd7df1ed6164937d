import { describe, expect, test } from 'vitest';
import { isAddress, readAddress } from '../../../proto/address.ts';

describe('an address', () => {
  test.each([
    ['exhibit.example.org:8443', 'exhibit.example.org', 8443],
    ['controller_1:7443', 'controller_1', 7443],
    ['0.0.0.0:0', '0.0.0.0', 0],
    ['[::]:8443', '::', 8443],
    ['[fe80::1%eth0]:65535', 'fe80::1%eth0', 65_535],
  ])('%s is a host and a port', (text, host, port) => {
    expect(readAddress(text)).toEqual({ host, port });
  });

  test.each(
    [
      ['', 'nowhere', ':8443', 'host:', 'host:65536', 'host:123456', '::1:8443', '[]:1', 'a b:1', '-a:1', 'a/b:1'],
      ['https://a:1', 'user@a:1', 'a:1\n', `${'a'.repeat(254)}:1`],
    ].flat(),
  )('%j is none', (text) => {
    expect(isAddress(text)).toBe(false);
  });
});
