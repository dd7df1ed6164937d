/**
 * The reader process: `node procfs-child.ts PROC_ROOT HOST_ROOT`. It reads requests from standard input, one after the other,
 * and answers on standard output; see procfs-frame.ts for both. It ends when its input ends, so it never outlives the agent.
 */
import { flushCompileCache } from 'node:module';
import path from 'node:path';
import { enterByWorkingDirectory } from './process-read.ts';
import { readFrame, writeFrame } from './procfs-frame.ts';
import type { Request } from './procfs-request.ts';
import { createServer } from './procfs-serve.ts';

// Every file that a kernel or a process does not have is an error, and its stack costs more than the file.
Error.stackTraceLimit = 0;
const [procRoot = '/proc', hostRoot = ''] = process.argv.slice(2);
using server = createServer({ procRoot: path.resolve(procRoot), hostRoot }, enterByWorkingDirectory);
for (let request = readFrame<Request>(0); request !== undefined; request = readFrame<Request>(0)) {
  for (const reply of server.serve(request)) writeFrame(1, reply);
  // Where there is a cache: this process never ends by itself, and what it compiled is for the next one.
  flushCompileCache();
}
