// A Node program with something to find. See zoo.ts for what it reads and prints. CommonJS: it has no package.json.
const { readFileSync } = require('node:fs');
const { Worker, isMainThread, workerData } = require('node:worker_threads');

const held = [];

const codes = (coded) => coded.match(/../g).map((pair) => Number.parseInt(pair, 16) ^ 0x5a);

/** Joined and then flattened by a lookup: V8 keeps joined strings as trees of their parts. */
function oneByteString(coded) {
  const text = codes(coded)
    .map((code) => String.fromCharCode(code))
    .join('');
  held.push(text, { [text]: 1 });
}

/** Only the worker writes into the memory that both share. */
function inWorker(coded, done) {
  const shared = new SharedArrayBuffer(4096);
  const worker = new Worker(__filename, { workerData: { shared, coded } });
  worker.once('message', done);
  held.push(shared, worker);
}

async function main() {
  const waiting = [];
  for (const line of readFileSync(0, 'latin1').trim().split('\n')) {
    const [place, coded] = line.split(' ');
    if (place === 'node-string') oneByteString(coded);
    if (place === 'node-buffer') held.push(Buffer.from(codes(coded)));
    if (place === 'node-shared') waiting.push(new Promise((done) => inWorker(coded, done)));
    console.log(place, process.pid);
  }
  await Promise.all(waiting);
  console.log('ready');
  setInterval(() => held.length, 3_600_000);
}

if (isMainThread) void main();
else {
  new Uint8Array(workerData.shared).set(codes(workerData.coded));
  require('node:worker_threads').parentPort.postMessage('written');
  setInterval(() => workerData.shared, 3_600_000);
}
