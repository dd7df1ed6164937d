import type { BundleReader } from './bundle.ts';
import { changesSchema } from './diff/document.ts';
import { explain } from './error.ts';
import type { Findings } from './findings.ts';
import { parseJson } from './json.ts';
import { CHANGES_OBJECT } from './layout.ts';
import { type Records, readWhole } from './verify-records.ts';

/** Agents write 3.5 MiB at most. */
const MAX_CHANGES_BYTES = 16 * 1024 * 1024;

/**
 * `changes.json`, where there is one, is of the known shape and of this capture. Whether it is right, only `exhibit diff` with the
 * bundle that it names can say. A missing one is told with the other objects.
 */
export async function checkChanges(reader: BundleReader, records: Records, findings: Findings): Promise<void> {
  const manifest = records.manifest?.value;
  const listed = manifest?.objects.find(({ name }) => name === CHANGES_OBJECT);
  if (manifest === undefined || listed === undefined || listed.truncated !== undefined) return;
  const invalid = (message: string) => findings.add('error', 'changes-invalid', message, { object: CHANGES_OBJECT });
  const bytes = await readWhole(reader, CHANGES_OBJECT, MAX_CHANGES_BYTES, findings);
  if (typeof bytes === 'string') return;
  try {
    const parsed = changesSchema.safeParse(parseJson(bytes, MAX_CHANGES_BYTES, CHANGES_OBJECT));
    if (!parsed.success) return invalid(`${CHANGES_OBJECT} has not the shape of version 1`);
    const { captureId, diff } = parsed.data;
    const named = [captureId, ...(diff === undefined ? [] : [diff.after.captureId])];
    const other = named.find((one) => one !== manifest.captureId);
    if (other !== undefined) invalid(`${CHANGES_OBJECT} is of capture ${other}, not of this one`);
  } catch (error) {
    invalid(explain(error));
  }
}
