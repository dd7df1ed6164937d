import { openBundle } from '../../../evidence/bundle.ts';
import { verifyBundle } from '../../../evidence/verify.ts';

/**
 * A process of its own that verifies the bundle in the folder it is given, so that its peak memory is that of the
 * verification and of nothing else. One line of JSON: the report, the peak resident set, and the bytes that were read.
 */
const [folder = ''] = process.argv.slice(2);
let readBytes = 0;
const reader = await openBundle(folder);
const report = await verifyBundle({
  ...reader,
  async *read(name, range) {
    for await (const chunk of reader.read(name, range)) {
      readBytes += chunk.length;
      yield chunk;
    }
  },
});
const peakBytes = process.resourceUsage().maxRSS * 1024;
process.stdout.write(`${JSON.stringify({ report, peakBytes, readBytes })}\n`);
