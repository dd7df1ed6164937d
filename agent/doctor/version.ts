export type Version = readonly [major: number, minor: number, patch: number];

/** The numbers at the beginning of `2.1.9+unknown`, `v1.7.27`, `1.6.20~ds1`, `6.12.40-63.114.amzn2023`; undefined without any. */
export function versionOf(text: string): Version | undefined {
  const match = /^v?(\d+)\.(\d+)(?:\.(\d+))?/.exec(text);
  return match === null ? undefined : [Number(match[1]), Number(match[2]), Number(match[3] ?? 0)];
}

export function isAtLeast(version: Version, wanted: readonly number[]): boolean {
  for (const [index, number] of version.entries()) {
    const other = wanted[index] ?? 0;
    if (number !== other) return number > other;
  }
  return true;
}
