export const NODE_VERSION: string;
export const DEBIAN_SUITE: string;
export const NODE_PACKAGES: readonly string[];
export const S3_PACKAGES: readonly string[];
export function cacheFolder(env?: NodeJS.ProcessEnv): string;
export function nodeFolder(env?: NodeJS.ProcessEnv): string;
export function labRoot(env?: NodeJS.ProcessEnv): string;
export function s3Root(env?: NodeJS.ProcessEnv): string;
