/**
 * The project as tidy's rules see it: every TypeScript file with its syntax tree and, where a rule needs them, its types.
 * Both come from the TypeScript compiler that also type-checks the project. Its programming interface is still called
 * unstable; what we use of it is in this file and in coroutines.ts.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import type { Node, SourceFile } from 'typescript/unstable/ast';
import { API, type Checker } from 'typescript/unstable/sync';

/** The repository's top folder. */
export const TOP = resolve(import.meta.dirname, '../..');

/** One TypeScript file. */
export interface SourceText {
  /** From the top folder, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly tree: SourceFile;
}

/** A parsed and type-checked project. Close it: a compiler process runs behind it. */
export interface TypedProject {
  readonly files: readonly SourceText[];
  readonly checker: Checker;
  close(): void;
}

/** Opens the project. */
export const openProject = (): TypedProject => open('tsconfig.json', {});

/** Opens a project of files that exist only for the compiler, by path from the top folder: what a rule's own test must find. */
export function openPlanted(files: Readonly<Record<string, string>>): TypedProject {
  const config = 'planted.tsconfig.json';
  const settings = JSON.stringify({ extends: './tsconfig.json', include: [], files: Object.keys(files) });
  const all = Object.entries({ ...files, [config]: settings }).map(([path, text]) => [join(TOP, path), text]);
  return open(config, Object.fromEntries(all));
}

function open(config: string, planted: Readonly<Record<string, string>>): TypedProject {
  const api = new API({
    cwd: TOP,
    fs: {
      readFile: (name) => planted[name],
      fileExists: (name) => (name in planted ? true : undefined),
    },
  });
  const project = api.updateSnapshot({ openProjects: [join(TOP, config)] }).getProjects()[0];
  if (!project) throw new Error(`${config} opens no project`);
  const files = project.rootFiles.map((name) => {
    const tree = project.program.getSourceFile(name);
    if (!tree) throw new Error(`the compiler has no tree of ${name}`);
    return { path: relative(TOP, name).replaceAll('\\', '/'), text: tree.text, tree };
  });
  return { files, checker: project.checker, close: () => api.close() };
}

/** Visits a node and everything in it, outermost first. */
export function walk(node: Node, visit: (node: Node) => void): void {
  visit(node);
  node.forEachChild((child) => walk(child, visit));
}

/** 1 for the first line. */
export function lineOf({ text }: SourceText, position: number): number {
  let line = 1;
  for (let at = text.indexOf('\n'); at !== -1 && at < position; at = text.indexOf('\n', at + 1)) line++;
  return line;
}

/** `src/node/node.ts:12` for a finding's message. */
export const place = (file: SourceText, node: Node): string => `${file.path}:${lineOf(file, node.getStart())}`;

/** Files that belong to the project: tracked, or new and not ignored. From the top folder. */
export function projectFiles(): string[] {
  const listed = spawnSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate'], { cwd: TOP, encoding: 'utf8' });
  if (listed.status !== 0) throw new Error(`git ls-files failed: ${listed.stderr}`);
  return listed.stdout.split('\n').filter((name) => name !== '');
}

/** The text of a file, by its path from the top folder; nothing if it is gone or is not text. */
export function textOf(path: string): string | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(join(TOP, path));
  } catch {
    return undefined;
  }
  return bytes.includes(0) ? undefined : bytes.toString('utf8');
}
