import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { z } from 'zod';
import { ExhibitError, explain } from './error.ts';

/** YARA rules by YARA-X, VirusTotal's own engine, compiled to WebAssembly: nothing to install and nothing that runs outside. */
export interface RuleEngine extends Disposable {
  /** What the compiler said about rules that do compile. */
  readonly warnings: readonly string[];
  /** The rules that match `bytes`, which are copied. Synchronous: some 250 MB a second. */
  scan(bytes: Uint8Array): RuleMatch[];
}

export interface RuleMatch {
  /** The file it comes from. */
  readonly namespace: string;
  readonly rule: string;
  readonly tags: readonly string[];
  readonly patterns: readonly PatternMatches[];
}

export interface PatternMatches {
  /** With the dollar: `$a`. */
  readonly id: string;
  readonly matches: readonly { readonly offset: number; readonly length: number }[];
}

export interface RuleSource {
  readonly name: string;
  readonly text: string;
}

const resultSchema = z.object({
  valid: z.boolean(),
  errors: z.array(z.string()),
  matches: z.array(
    z.object({
      identifier: z.string(),
      namespace: z.string(),
      tags: z.array(z.string()),
      patterns: z.array(
        z.object({
          identifier: z.string(),
          matches: z.array(z.object({ offset: z.number().nonnegative(), length: z.number().nonnegative() })),
        }),
      ),
    }),
  ),
});

/**
 * Each source is a namespace of its own, so that two files may have rules of one name. `maxMatches` bounds what is told of
 * a pattern in one scan. Throws ExhibitError `usage` with the compiler's words, which name the line.
 */
export async function compileRules(sources: readonly RuleSource[], maxMatches: number): Promise<RuleEngine> {
  const { Compiler, initSync } = await import('@virustotal/yara-x');
  const packageFile = createRequire(import.meta.url).resolve('@virustotal/yara-x/package.json');
  const code = await readFile(path.join(path.dirname(packageFile), CODE));
  initSync({ module: code });
  using compiler = new Compiler();
  for (const { name, text } of sources) {
    try {
      compiler.newNamespace(name);
      compiler.addSource(text);
    } catch (cause) {
      throw new ExhibitError('usage', `${name} does not compile:\n${explain(cause)}`);
    }
  }
  const warnings = compiler.warnings;
  const rules = compiler.build();
  const scanner = rules.scanner();
  scanner.setMaxMatchesPerPattern(maxMatches);
  return {
    warnings,
    scan(bytes) {
      const result = resultSchema.parse(scanner.scan(bytes));
      if (!result.valid)
        throw new ExhibitError('internal', `The rules could not be applied: ${result.errors.join(' ')}`);
      return result.matches.map(({ identifier, namespace, tags, patterns }) => {
        const found = patterns.map(({ identifier: id, matches }) => ({ id, matches }));
        return { rule: identifier, namespace, tags, patterns: found.filter(({ matches }) => matches.length > 0) };
      });
    },
    [Symbol.dispose]() {
      scanner.free();
      rules.free();
    },
  };
}

/** The package exports its module only, and loads this file by fetch, which Node does not do for files. */
const CODE = 'pkg/yara_x_js_bg.wasm';
