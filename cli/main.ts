#!/usr/bin/env node
import { enableCompileCache } from 'node:module';
import { codeFolder } from './code-folder.ts';

/**
 * The `exhibit` command, as fast as it can: half of a short command's time is compiling, so where the agent keeps compiled code
 * it is taken from there, and left there. Before anything else is loaded, for only what comes later is kept.
 */
const folder = codeFolder(process.argv.slice(2), process.env);
if (folder !== undefined) enableCompileCache(folder);
await import('./exhibit.ts');
