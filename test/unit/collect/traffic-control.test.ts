import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { collect, linesOf, type Namespace, namespaceObstacle, openNamespace } from './namespace.ts';
import { type Json, jsonLines } from './proc-context.ts';

const tcObstacle = namespaceObstacle('tc', 'python3');
describe.skipIf(tcObstacle !== undefined)(`traffic control (${tcObstacle ?? 'judged by tc'})`, () => {
  test('qdiscs and filters are those that tc shows', async () => {
    await using namespace = await openNamespace();
    namespace.run('tc', ['qdisc', 'add', 'dev', 'lo', 'clsact']);
    const filter = ['filter', 'add', 'dev', 'lo', 'egress', 'protocol', 'ip', 'prio', '7', 'bpf'];
    namespace.run('tc', [...filter, 'direct-action', 'bytecode', '1,6 0 0 4294967295']);
    const written = await collect(namespace);
    expect(written.gaps).toEqual([]);
    const lines = jsonLines(written, 'traffic-control.jsonl');
    const shown: Json[] = JSON.parse(namespace.run('tc', ['-j', 'qdisc', 'show']));
    expect(linesOf(lines, 'qdisc').map((one) => `${one.interface} ${one.kind} ${one.handle}`)).toEqual(
      shown.map((one) => `${one.dev} ${one.kind} ${one.handle}`),
    );
    const filters: Json[] = JSON.parse(namespace.run('tc', ['-j', 'filter', 'show', 'dev', 'lo', 'egress']));
    const [theirs] = filters.filter(({ options }) => options !== undefined);
    expect(linesOf(lines, 'filter')).toMatchObject([
      {
        interface: 'lo',
        parent: 'egress',
        kind: String(theirs?.kind),
        priority: Number(theirs?.pref),
        handle: String(theirs?.options?.handle),
        etherType: '0x800',
        bpf: { instructions: '06000000ffffffff', directAction: true },
      },
    ]);
  });

  test('a packet socket shows the filter that it waits with', async () => {
    const SNIFF = `
import ctypes, socket, struct, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 7))
sniffer.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HxxxxxxP', 1, ctypes.addressof(code)))
print('there', flush=True)
sys.stdin.read()
`;
    const sniffer = spawn('unshare', ['--net', 'python3', '-c', SNIFF], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      await once(sniffer.stdout, 'data');
      const written = await collect({ pid: sniffer.pid ?? 0 } as Namespace);
      expect(jsonLines(written, 'sockets.jsonl').filter(({ protocol }) => String(protocol) === 'packet')).toMatchObject(
        [{ etherType: '0x3', filter: '0600000007000000', owners: [{ pid: sniffer.pid }] }],
      );
    } finally {
      const ended = once(sniffer, 'exit');
      sniffer.stdin.end();
      await ended;
    }
  });
});
