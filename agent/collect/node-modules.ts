import { describeModules } from '../host/modules.ts';
import type { ModuleReading } from '../host/modules-read.ts';
import { addLines, asking, type ReaderArchive } from './reader-archive.ts';

/** Distribution kernels have 150 modules loaded and 200 built in that have a folder. */
const MODULES_MAX = 4096;

/** `modules.jsonl`: the modules of both lists. `listed`: /proc/modules, undefined where the kernel has none. */
export async function addModules(work: ReaderArchive, listed: Uint8Array | undefined): Promise<void> {
  const { context } = work;
  if (listed === undefined)
    context.note('The kernel has no /proc/modules: it cannot load modules, or the list cannot be read.');
  let names: readonly string[] = [];
  await asking(
    work,
    { kind: 'node', ask: { about: 'names', folder: '/sys/module', limit: MODULES_MAX } },
    'names in /sys/module',
    (reply) => {
      if (reply.kind !== 'node' || reply.answer.about !== 'names') return;
      const { errno, truncated } = reply.answer;
      if (errno !== undefined) context.gap({ what: 'sys/module', errno, why: 'it cannot be listed' });
      if (truncated) context.gap({ what: 'sys/module', why: `cut after ${MODULES_MAX} names` });
      names = reply.answer.names;
    },
  );
  const sys: ModuleReading[] = [];
  await asking(work, { kind: 'node', ask: { about: 'modules', names } }, 'modules', (reply) => {
    if (reply.kind !== 'node' || reply.answer.about !== 'module') return;
    sys.push(reply.answer.module);
    if (reply.answer.module.truncated)
      context.gap({
        what: `sys/module/${reply.answer.module.name}`,
        why: 'it has more parameters or holders than are taken',
      });
  });
  const modules = describeModules(listed, sys);
  const loaded = modules.filter(({ builtIn }) => !builtIn);
  context.fact('modules', loaded.length);
  context.fact(
    'modulesListedOnce',
    modules.filter(({ listedOnce }) => listedOnce).map(({ name }) => name),
  );
  await addLines(work, 'modules', modules);
}
