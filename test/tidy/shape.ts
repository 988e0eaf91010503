/**
 * The shape of source files: how long they and their functions are, what they are called, that each says at its top what it is
 * and each public declaration what it does, and that files of layouts only compute.
 */
import {
  isClassDeclaration,
  isFunctionDeclaration,
  isImportDeclaration,
  isStringLiteral,
  isVariableStatement,
  type Node,
  SyntaxKind,
  type VariableStatement,
} from 'typescript/unstable/ast';
import { lineOf, place, type SourceText, walk } from './project.ts';

const FILE_LIMIT = 500;
const FUNCTION_LIMIT = 70;

/** Names that say nothing about what is inside. */
const EMPTY_NAMES = ['utils', 'util', 'helpers', 'helper', 'misc', 'common'];

/** Lines of a file. */
export const lineCount = ({ text }: SourceText): number => text.split('\n').length - (text.endsWith('\n') ? 1 : 0);

/** Files of 500 lines and more. */
export function longFiles(files: readonly SourceText[]): string[] {
  return files
    .filter((file) => lineCount(file) >= FILE_LIMIT)
    .map((file) => `${file.path} has ${lineCount(file)} lines: split it by what a reader looks for`);
}

/** Functions, methods and accessors of 70 lines and more. */
export function longFunctions(file: SourceText): string[] {
  const findings: string[] = [];
  walk(file.tree, (node) => {
    if (!('body' in node) || !node.body || node.kind === SyntaxKind.ModuleDeclaration) return;
    const lines = lineOf(file, node.end) - lineOf(file, node.getStart()) + 1;
    if (lines >= FUNCTION_LIMIT) findings.push(`${place(file, node)}: a function of ${lines} lines`);
  });
  return findings;
}

/** File names are lower-case nouns that say what is inside. */
export function badNames(files: readonly SourceText[]): string[] {
  return files
    .filter(({ path }) => {
      const [folder, name = ''] = [path.split('/')[0], path.split('/').at(-1)];
      if (folder !== 'src' && folder !== 'test') return false;
      return !/^[a-z0-9]+(-[a-z0-9]+)*(\.test|\.d)?\.ts$/.test(name) || EMPTY_NAMES.includes(name.replace('.ts', ''));
    })
    .map(({ path }) => `${path}: a file is called by a lower-case noun that says what is inside`);
}

/** Files that do not start by saying what they are. */
export function missingHeaders(files: readonly SourceText[]): string[] {
  return files
    .filter(({ text }) => !/^(#!.*\n)?\/\*\*[\s*]+(?!placeholder)\S/i.test(text))
    .map(({ path }) => `${path}: starts without a comment that says what this file is`);
}

/** Exported functions and classes without a doc comment. The file's header is the doc comment of its only class. */
export function undocumented(file: SourceText): string[] {
  const isExported = (one: Node) =>
    'modifiers' in one && (one.modifiers as readonly Node[] | undefined)?.some(({ kind }) => kind === SyntaxKind.ExportKeyword);
  const classes = file.tree.statements.filter((one) => isClassDeclaration(one) && isExported(one));
  return file.tree.statements
    .filter((one) => isFunctionDeclaration(one) || isClassDeclaration(one) || holdsFunction(one))
    .filter((one) => isExported(one) && !hasDoc(one) && !(isClassDeclaration(one) && classes.length === 1))
    .map((one) => `${place(file, one)}: exported without a doc comment: ${firstLine(one)}`);
}

const holdsFunction = (node: Node): node is VariableStatement =>
  isVariableStatement(node) && node.declarationList.declarations.some(({ initializer }) => initializer?.kind === SyntaxKind.ArrowFunction);

const hasDoc = (node: Node): boolean => (node.jsDoc?.length ?? 0) > 0;
const firstLine = (node: Node): string => node.getText().split('\n')[0]?.slice(0, 80) ?? '';

/** What lies where in a file is pure arithmetic: a file that has `layout` in its name never waits and never sees a storage. */
export function waitingLayouts(file: SourceText): string[] {
  if (!/\blayout\b[^/]*\.ts$/.test(file.path)) return [];
  const findings: string[] = [];
  walk(file.tree, (node) => {
    const waits = [SyntaxKind.YieldExpression, SyntaxKind.AwaitExpression, SyntaxKind.AsyncKeyword].includes(node.kind);
    const specifier = isImportDeclaration(node) && isStringLiteral(node.moduleSpecifier) ? node.moduleSpecifier.text : '';
    if (waits || /\/(io|storage)\.ts$/.test(specifier))
      findings.push(`${place(file, node)}: a file of layouts only computes: no storage, no waiting`);
  });
  return findings;
}
