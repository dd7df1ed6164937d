import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lookAtKernelParts } from '../../../agent/host/kernel-presence.ts';
import { describeModules, parseModules, taintNames } from '../../../agent/host/modules.ts';
import { readModule } from '../../../agent/host/modules-read.ts';

/** Made after proc(5) and sysfs-module of the kernel's documentation: the machine that these tests were written on has no modules. */
const PROC = [
  'nft_chain_nat 12288 2 - Live 0xffffffffc0b2a000',
  'nf_tables 380928 1122 nft_chain_nat,nft_compat, Live 0xffffffffc0a00000',
  'evil 16384 0 - Live 0xffffffffc0c00000 (OE)',
  'going 4096 -1 - Unloading 0x0000000000000000 (E-)',
  '',
].join('\n');

let root: string;
const host = () => ({ procRoot: `${root}/proc`, hostRoot: root });
const write = (name: string, content: string): void => {
  mkdirSync(path.dirname(`${root}/${name}`), { recursive: true });
  writeFileSync(`${root}/${name}`, content);
};

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'exhibit-modules-'));
});
afterEach(() => rmSync(root, { recursive: true }));

describe('/proc/modules', () => {
  test('has size, users, state, address and taints of each', () => {
    const found = parseModules(Buffer.from(PROC));
    expect(found.map(({ name }) => name)).toEqual(['nft_chain_nat', 'nf_tables', 'evil', 'going']);
    expect(found[1]?.fields).toEqual({
      sizeBytes: 380_928,
      references: 1122,
      usedBy: ['nft_chain_nat', 'nft_compat'],
      state: 'Live',
      address: '0xffffffffc0a00000',
    });
    expect(found[2]?.fields).toMatchObject({ taints: ['out-of-tree', 'unsigned'], usedBy: [] });
    expect(found[3]?.fields).toMatchObject({ state: 'Unloading', references: -1, taints: ['unsigned'] });
  });

  test('taints of the kernel are bits, those beyond 31 too', () => {
    expect(taintNames(0)).toEqual([]);
    expect(taintNames(4096 + 8192)).toEqual(['out-of-tree', 'unsigned']);
    expect(taintNames(2 ** 40)).toEqual([]);
  });
});

describe('both lists of modules', () => {
  const place = (): void => {
    for (const name of ['nft_chain_nat', 'nf_tables', 'evil', 'hidden'])
      write(`sys/module/${name}/initstate`, 'live\n');
    write('sys/module/nf_tables/srcversion', '0123456789ABCDEF\n');
    write('sys/module/nf_tables/holders/nft_chain_nat', '');
    write('sys/module/evil/parameters/port', '4444\n');
    write('sys/module/hidden/coresize', '8192\n');
    write('sys/module/hidden/taint', 'OE\n');
    write('sys/module/printk/parameters/time', 'Y\n');
  };
  const describeAll = (proc: string | undefined) =>
    describeModules(
      proc === undefined ? undefined : Buffer.from(proc),
      ['nft_chain_nat', 'nf_tables', 'evil', 'hidden', 'printk'].map((name) => readModule(host(), name)),
    );

  test('show a module that took itself off one of them', () => {
    place();
    const once = describeAll(PROC).filter(({ listedOnce }) => listedOnce);
    expect(once).toMatchObject([
      { name: 'going', in: ['proc'] },
      { name: 'hidden', in: ['sys'], sizeBytes: 8192, taints: ['out-of-tree', 'unsigned'], state: 'live' },
    ]);
  });

  test('show built-in parts as such, with their parameters', () => {
    place();
    const found = describeAll(PROC);
    expect(found.find(({ name }) => name === 'printk')).toEqual({
      name: 'printk',
      in: ['sys'],
      builtIn: true,
      parameters: { time: 'Y' },
    });
    expect(found.find(({ name }) => name === 'evil')).toMatchObject({
      in: ['proc', 'sys'],
      parameters: { port: '4444' },
    });
    expect(found.find(({ name }) => name === 'nf_tables')).toMatchObject({
      holders: ['nft_chain_nat'],
      sourceVersion: '0123456789ABCDEF',
      state: 'Live',
    });
  });

  test('accuse nobody where the kernel has no /proc/modules', () => {
    place();
    expect(describeAll(undefined).filter(({ listedOnce }) => listedOnce)).toEqual([]);
  });
});

describe('whether a part of the kernel is there', () => {
  const presence = (part: 'nf_tables' | 'tcp_diag') => lookAtKernelParts(host()).presenceOf(part).kind;

  test('is said by the list of modules, by sysfs, or by its symbols', () => {
    write('proc/modules', PROC);
    expect(presence('nf_tables')).toBe('present');
    expect(presence('tcp_diag')).toBe('absent');
    mkdirSync(`${root}/sys/module/tcp_diag`, { recursive: true });
    expect(presence('tcp_diag')).toBe('present');
    write('proc/modules', 'other 4096 0 - Live 0x0\n');
    expect(presence('nf_tables')).toBe('absent');
    // A symbol of a module has the module's name behind it.
    write('proc/kallsyms', '0000000000000000 T nft_do_chain\t[nf_tables_copy]\n');
    expect(presence('nf_tables')).toBe('absent');
    write('proc/kallsyms', '0000000000000000 T nft_do_chain\n0000000000000000 t other\n');
    expect(presence('nf_tables')).toBe('present');
  });

  test('need not be known where the kernel has no modules at all', () => {
    mkdirSync(`${root}/proc`);
    expect(presence('nf_tables')).toBe('askable');
  });
});
