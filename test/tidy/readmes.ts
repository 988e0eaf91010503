/**
 * The READMEs tell the truth about the tree: every path they name exists, and the map in src/README.md has a line for every
 * source file (a folder's line without lines below it covers all that is in it).
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { TOP, textOf } from './project.ts';
import { MAP } from './rooms.ts';

/** Paths that are built or fetched, so a fresh clone lacks them. */
const MADE = /^(dist|node_modules|public\/guest|test\/\.cache)\b/;

/** Paths in code quotes or links that lead nowhere. */
export function deadPaths(readme: string): string[] {
  const text = textOf(readme);
  if (text === undefined) return [`${readme} is missing`];
  const folder = readme.split('/').slice(0, -1).join('/');
  const named = [...text.matchAll(/`([^`\s]+)`|\]\(([^)\s]+)\)/g)].map(([, code, link]) => code ?? link ?? '');
  return [...new Set(named)]
    .filter(looksLikePath)
    .filter((path) => !MADE.test(path) && !existsSync(join(TOP, path)) && !existsSync(join(TOP, folder, path)))
    .map((path) => `${readme} names ${path}, which does not exist`);
}

function looksLikePath(text: string): boolean {
  if (/[*{}<>:…]/.test(text)) return false;
  return /^(src|test|public|\.ci)\//.test(text) || /^[\w.-]+\/[\w./-]*\.(ts|mjs|md|html|json|png|css)$/.test(text);
}

/** Lines of the map that name nothing, and source files that the map leaves out. */
export function mapFindings(paths: readonly string[]): string[] {
  const drawn = drawnPaths(textOf(MAP) ?? '');
  const dead = drawn.filter((path) => !existsSync(join(TOP, 'src', path))).map((path) => `${MAP} draws ${path}, which does not exist`);
  const covers = (path: string) => drawn.some((one) => one === path || (one.endsWith('/') && path.startsWith(one) && isLeaf(one, drawn)));
  const missing = paths
    .filter((path) => /^src\/.*\.ts$/.test(path) && existsSync(join(TOP, path)))
    .map((path) => path.slice('src/'.length))
    .filter((path) => !covers(path));
  return [...dead, ...missing.map((path) => `${MAP} has no line for ${path}`)];
}

/**
 * What is wrong with a table of answers: a row whose first cell is a number names functions or classes, files of src/ that have them all, and a
 * test; the rows are numbered from 1 to `rows`. `textOfPath` gives a file's text, or nothing.
 */
export function answerFindings(text: string, rows: number, textOfPath: (path: string) => string | undefined = textOf): string[] {
  const found = [...text.matchAll(/^\| (\d+) \|/gm)].map(([, row]) => Number(row));
  const complete = found.length === rows && found.every((row, index) => row === index + 1);
  const wrong = text.split('\n').flatMap((line) => {
    const [, row = '', , answers = '', files = '', tests = ''] = line.split('|').map((cell) => cell.trim());
    if (!/^\d+$/.test(row)) return [];
    const quoted = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, inside = '']) => inside);
    const source = quoted(files).map((file) => textOfPath(`src/${file}`) ?? '');
    const names = quoted(answers).flatMap((answer) => answer.split('.'));
    const absent = names.filter((name) => !source.some((file) => new RegExp(`\\b${name}\\b`).test(file)));
    const untested = quoted(tests).filter((test) => !textOfPath(test)?.includes('test'));
    return [
      ...(names.length === 0 || quoted(tests).length === 0 ? [`${MAP}, row ${row}: it names no answer, or no test`] : []),
      ...absent.map((name) => `${MAP}, row ${row}: ${name} is not in ${files}`),
      ...untested.map((test) => `${MAP}, row ${row}: ${test} tests nothing`),
    ];
  });
  return [...(complete ? [] : [`${MAP}: the rows are not 1 to ${rows}, in order`]), ...wrong];
}

const isLeaf = (folder: string, drawn: readonly string[]): boolean => !drawn.some((path) => path !== folder && path.startsWith(folder));

/** The tree in the map's first code block that starts with `src/`: two spaces a level, the name, then what it is. */
function drawnPaths(text: string): string[] {
  const block = /```\n(src\/\n[\s\S]*?)```/.exec(text)?.[1] ?? '';
  const above: string[] = [];
  const paths: string[] = [];
  for (const line of block.split('\n').slice(1)) {
    const found = /^((?: {2})+)(\S+)/.exec(line);
    if (!found) continue;
    const [, indent = '', names = ''] = found;
    const depth = indent.length / 2 - 1;
    above.length = depth;
    for (const name of names.split(',')) paths.push([...above, name].join(''));
    if (names.endsWith('/')) above[depth] = names;
  }
  return paths;
}
