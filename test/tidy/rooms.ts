/**
 * Who may import whom. The rule is the import table in src/README.md, read from there: a row for each room, with the rooms or
 * files it may import and the packages it may use. Its own room is always allowed; a format's folder is a room of its own.
 * Imports of types count like those of values, for the table and for cycles: two files that name each other's types are read as one.
 */
import { isCallExpression, isExportDeclaration, isImportDeclaration, isStringLiteral, type Node, SyntaxKind } from 'typescript/unstable/ast';
import { place, type SourceText, textOf, walk } from './project.ts';

/** The file that has the table. */
export const MAP = 'src/README.md';

interface Room {
  readonly imports: readonly string[];
  readonly packages: readonly string[];
}

interface Import {
  readonly node: Node;
  /** `src/base/io.ts` for a relative import, else the package's specifier. */
  readonly target: string;
  readonly relative: boolean;
}

/** Findings against the table, one for each import that no row allows. */
export function strayImports(files: readonly SourceText[]): string[] {
  const table = importTable();
  return files.flatMap((file) => {
    const name = roomOf(file.path);
    const room = table.get(name);
    if (!room) return [`${file.path}: the room "${name}" has no row in the import table of ${MAP}`];
    return importsOf(file)
      .filter((one) => !(one.relative ? allows(room.imports, file.path, one.target) : usesPackage(room.packages, one.target)))
      .map((one) => `${place(file, one.node)}: "${name}" may not import ${one.target} (the import table is in ${MAP})`);
  });
}

/** Imports that lead back to where they started, one finding for each import that closes a circle. */
export function importCycles(files: readonly SourceText[]): string[] {
  const edges = new Map(files.map((file) => [file.path, importsOf(file).filter((one) => one.relative)]));
  const findings: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, above: readonly string[]): void => {
    const start = above.indexOf(path);
    if (start !== -1) findings.push(`import cycle: ${[...above.slice(start), path].join(' -> ')}`);
    if (start !== -1 || done.has(path)) return;
    for (const { target } of edges.get(path) ?? []) visit(target, [...above, path]);
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return findings;
}

/** The rows of the table: | `room` | what it is | imports | packages |. */
function importTable(): Map<string, Room> {
  const table = new Map<string, Room>();
  for (const line of (textOf(MAP) ?? '').split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    const name = /^`([^`]+)`$/.exec(cells[1] ?? '')?.[1];
    if (name && cells.length >= 6) table.set(name, { imports: quoted(cells[3]), packages: quoted(cells[4]) });
  }
  return table;
}

const quoted = (cell = ''): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);

/** `base`, `formats`, `formats/*`, `index`, from a path under src/. */
function roomOf(path: string): string {
  const [first = '', ...rest] = path.replace('src/', '').split('/');
  if (first === 'formats' && rest.length > 1) return 'formats/*';
  return first.replace('.ts', '');
}

/** The folder whose files may import each other. */
const folderOf = (path: string): string =>
  roomOf(path) === 'formats/*' ? path.split('/').slice(0, 3).join('/') : path.split('/').slice(0, 2).join('/');

function allows(imports: readonly string[], from: string, target: string): boolean {
  if (target.startsWith('src/') && folderOf(from) === folderOf(target)) return true;
  return imports.some((name) => {
    const pattern = new RegExp(`^src/${name.replaceAll('*', '[^/]+')}(\\.ts|/.*)$`);
    return pattern.test(target);
  });
}

const usesPackage = (packages: readonly string[], target: string): boolean =>
  packages.some((name) => target === name || target.startsWith(name.endsWith(':') ? name : `${name}/`));

function importsOf(file: SourceText): Import[] {
  const imports: Import[] = [];
  walk(file.tree, (node) => {
    const specifier = specifierOf(node);
    if (!specifier) return;
    const relative = specifier.startsWith('.');
    const target = relative ? new URL(specifier, `file:///${file.path}`).pathname.slice(1) : specifier;
    imports.push({ node, target, relative });
  });
  return imports;
}

/** The module that an import, a re-export or an `import()` names. */
function specifierOf(node: Node): string | undefined {
  let specifier: Node | undefined;
  if (isImportDeclaration(node) || isExportDeclaration(node)) specifier = node.moduleSpecifier;
  else if (isCallExpression(node) && node.expression.kind === SyntaxKind.ImportKeyword) specifier = node.arguments[0];
  return specifier && isStringLiteral(specifier) ? specifier.text : undefined;
}
