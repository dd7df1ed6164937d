/**
 * `node bench/age.ts [--size MIB] [--rounds N]`: what encryption to two recipients costs the way from a collector to a sink that
 * takes everything, beside the library alone. Rounds in turn; medians of MiB/s and of CPU seconds a GiB (all threads).
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { decryptFile } from '../evidence/age-reader.ts';
import { createEncryption, type Encrypt } from '../evidence/age-writer.ts';
import { createFrameWriter } from '../evidence/frames.ts';
import { median } from './median.ts';

const MIB = 2 ** 20;

interface Figure {
  readonly mibPerSecond: number;
  readonly cpuSecondsPerGib: number;
}

async function measure(sizeMib: number, work: () => Promise<unknown>): Promise<Figure> {
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return { mibPerSecond: sizeMib / seconds, cpuSecondsPerGib: ((user + system) / 1e6 / sizeMib) * 1024 };
}

const sink = { write: async () => undefined };

async function frames(content: Uint8Array, sizeMib: number, level: number, encrypt?: Encrypt): Promise<void> {
  const encryption = await encrypt?.();
  const writer = createFrameWriter(sink, { level, storedDigestOnly: level === 0, ...(encryption && { encryption }) });
  for (let mib = 0; mib < sizeMib; mib += 1) await writer.write(content);
  await writer.end();
}

/** The same MiB of ciphertext as often as asked would not decrypt, so one file of `content` is read again and again. */
async function readBack(file: Uint8Array, identity: string, times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    for await (const _ of decryptFile([file], [identity]));
  }
}

async function library(content: Uint8Array, sizeMib: number, recipients: readonly string[]): Promise<void> {
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  let left = sizeMib;
  const source = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (left > 0) controller.enqueue(content);
      else controller.close();
      left -= 1;
    },
  });
  for await (const _ of await encrypter.encrypt(source));
}

const { values } = parseArgs({
  options: { size: { type: 'string', default: '512' }, rounds: { type: 'string', default: '3' } },
});
const sizeMib = Number(values.size);
const identity = await generateX25519Identity();
const recipients = [await identityToRecipient(identity), await identityToRecipient(await generateX25519Identity())];
const encrypt = await createEncryption(recipients);
const noise = randomBytes(MIB);
const stream = await encrypt();
const file = Buffer.concat([Buffer.from(stream.push(randomBytes(16 * MIB)).bytes), stream.end().bytes]);
/** The library is an order slower: less of it says as much. */
const librarySizeMib = Math.max(1, Math.floor(sizeMib / 8));

const ways: [name: string, sizeMib: number, work: () => Promise<void>][] = [
  ['frames, level 1, plain', sizeMib, () => frames(noise, sizeMib, 1)],
  ['frames, level 1, age', sizeMib, () => frames(noise, sizeMib, 1, encrypt)],
  ['frames, level 0, plain', sizeMib, () => frames(noise, sizeMib, 0)],
  ['frames, level 0, age', sizeMib, () => frames(noise, sizeMib, 0, encrypt)],
  ['reading an age file', sizeMib, () => readBack(file, identity, sizeMib / 16)],
  ['the library alone', librarySizeMib, () => library(noise, librarySizeMib, recipients)],
];
const figures = new Map<string, Figure[]>();
for (let round = 0; round < Number(values.rounds); round += 1) {
  for (const [name, size, work] of ways) {
    figures.set(name, [...(figures.get(name) ?? []), await measure(size, work)]);
  }
}
for (const [name, rounds] of figures) {
  const speed = median(rounds.map(({ mibPerSecond }) => mibPerSecond));
  const cpu = median(rounds.map(({ cpuSecondsPerGib }) => cpuSecondsPerGib));
  process.stdout.write(
    `${name.padEnd(24)} ${speed.toFixed(0).padStart(6)} MiB/s  ${cpu.toFixed(2).padStart(5)} CPU s/GiB\n`,
  );
}
process.stdout.write(`peak resident set of all of it: ${Math.round(process.resourceUsage().maxRSS / 1024)} MiB\n`);
