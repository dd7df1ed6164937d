/** A real systemd-journald in namespaces of its own, with a program that writes to it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { judgeEnvironment } from './log-judges.ts';

export interface Journald extends AsyncDisposable {
  /** Root folder of the machine that journald is of, as seen from outside. */
  readonly hostRoot: string;
}

/** journald makes its socket within some milliseconds; a loaded machine gets the benefit of the doubt. */
const START_TIMEOUT_S = 30;

/** `$1` is said in every line, with a number; 500 lines a second, beyond which journald would suppress some. */
const SCRIPT = `set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/log
"$(command -v systemd-journald)" &
for i in $(seq ${START_TIMEOUT_S * 100}); do [ -S /run/systemd/journal/stdout ] && break; sleep 0.01; done
perl -e '$| = 1; while (1) { print "$ARGV[0] ", ++$n, "\\n"; select undef, undef, undef, 0.02 if $n % 10 == 0 }' "$1" | systemd-cat -t writer &
echo ready
wait
`;

/** Needs root, and the judges' programs. */
export async function startJournald(word: string): Promise<Journald> {
  const kinds = ['--mount', '--net', '--ipc', '--uts', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const argv = ['--pdeathsig', 'KILL', 'unshare', ...kinds, 'sh', '-c', SCRIPT, 'sh', word];
  const child = spawn('setpriv', argv, { env: judgeEnvironment(), stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended;
  };
  const said = await Promise.race([once(createInterface(child.stdout), 'line'), ended.then(() => ['ended'])]);
  if (said[0] !== 'ready') {
    await stop();
    throw new Error('systemd-journald does not start');
  }
  const init = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'latin1').trim();
  return { hostRoot: `/proc/${init}/root`, [Symbol.asyncDispose]: stop };
}
