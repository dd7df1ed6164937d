import { keepJson } from './decode.ts';

/** Values remembered of one kind of file. Containers of a pod take turns rarely, so few are enough. */
const REMEMBERED_MAX = 4;
/** A file may have megabytes; those that are alike have a few thousand bytes. */
const REMEMBERED_BYTES_MAX = 256 * 1024;

/**
 * Processes of a target resemble each other: workers have the limits, the environment and often the mappings of their
 * siblings, to the byte. A parser that remembers what it made of the last bytes, and its JSON, so that the same bytes cost
 * a comparison.
 */
export function remembering<Value>(parse: (bytes: Buffer) => Value): (bytes: Buffer) => Value {
  const known: { bytes: Buffer; value: Value }[] = [];
  return (bytes) => {
    const found = known.find((one) => one.bytes.equals(bytes));
    if (found !== undefined) return found.value;
    const value = parse(bytes);
    if (bytes.length > REMEMBERED_BYTES_MAX) return value;
    keepJsonOf(value);
    known.unshift({ bytes, value });
    known.length = Math.min(known.length, REMEMBERED_MAX);
    return value;
  };
}

/** As `remembering`, of text. */
export function rememberingText<Value>(parse: (text: string) => Value): (text: string) => Value {
  const known = new Map<string, Value>();
  return (text) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const value = parse(text);
    if (text.length > REMEMBERED_BYTES_MAX) return value;
    keepJsonOf(value);
    if (known.size >= REMEMBERED_MAX) known.clear();
    known.set(text, value);
    return value;
  };
}

/** Descriptors below this number. */
const REMEMBERED_FDS_MAX = 4096;

/** Remembers the last object of each descriptor's number, and what was made of it: the same object needs no second look. */
export function rememberingByFd<Item extends object, Rest extends unknown[], Value>(
  fdOf: (item: Item) => number,
  make: (item: Item, ...rest: Rest) => Value,
): (item: Item, ...rest: Rest) => Value {
  const last = new Map<number, { item: Item; value: Value }>();
  return (item, ...rest) => {
    const fd = fdOf(item);
    const known = last.get(fd);
    if (known?.item === item) return known.value;
    const value = make(item, ...rest);
    if (fd < REMEMBERED_FDS_MAX) last.set(fd, { item, value });
    return value;
  };
}

/** And of its fields, which records take apart. */
function keepJsonOf(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  keepJson(value);
  for (const field of Object.values(value)) if (typeof field === 'object' && field !== null) keepJson(field);
}
