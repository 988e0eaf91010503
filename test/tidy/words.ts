/**
 * Words that have no business in the project's files: paths of the machine they were written on, addresses of package registries,
 * numbers of issues, and tests that do not run.
 */
import { textOf } from './project.ts';

interface Rule {
  readonly pattern: RegExp;
  readonly why: string;
  readonly only?: RegExp;
}

// Put together from pieces, so that this file is not a finding.
const RULES: readonly Rule[] = [
  { pattern: /(?<![\w.])\/(?:w[o]rk|f[a]rm)\//, why: 'a path of one machine' },
  { pattern: /https?:\/\/(?:registry|deb|security|snapshot)\.[a-z]+\.(?:org|net)/, why: 'the address of a package registry' },
  { pattern: /"resolved":/, why: 'a download address: make the lock file with omit-lockfile-registry-resolved', only: /^package-lock\.json$/ },
  { pattern: /\bissues? #?\d|\(#\d+\)/i, why: 'the number of an issue: say what it is about', only: /\.(ts|mjs|md|html)$/ },
  {
    pattern: /\bmessage\??\.(?:includes|startsWith|endsWith|match|search|indexOf)\(|\.test\([\w.]*\bmessage\)/,
    why: 'a decision by the words of a message: decide by kind, field or step',
    // The failures of browsers and of the runtime have nothing but words.
    only: /^src\/(?!storage\/browser-errors\.ts$|cli\/words\.ts$).*\.ts$/,
  },
  { pattern: /\b(?:it|test|describe)\.(?:s[k]ip|o[n]ly|t[o]do|skipI[f]|runI[f])\b/, why: 'a test that may not run', only: /\.test\.ts$/ },
];

/** One finding for each line that a rule knows. */
export function strayWords(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    const rules = RULES.filter(({ only }) => only?.test(path) ?? true);
    return (textOf(path) ?? '')
      .split('\n')
      .flatMap((line, index) =>
        rules.filter(({ pattern }) => pattern.test(line)).map(({ why }) => `${path}:${index + 1}: ${why}: ${line.trim().slice(0, 100)}`),
      );
  });
}
