/**
 * The package's surface: what its entries export, and what an embedder meets from there in signatures. Every type on the way is exported, so that it can be
 * named, and everything has a doc comment: what is exported, and each member of it. Left out is what is `@internal`, private or protected.
 */
import { isClassDeclaration, isInterfaceDeclaration, type Node, SyntaxKind } from 'typescript/unstable/ast';
import { type Checker, type Symbol as CheckerSymbol, ObjectFlags, SymbolFlags, type Type, type TypeReference } from 'typescript/unstable/sync';
import { place, type SourceText, type TypedProject } from './project.ts';

/** What embedders import: the package's entries. Those after the first may lean on it: its types are named with `import … from 'tabdisk'`. */
export const ENTRIES = [
  'src/index.ts',
  'src/qemu.ts',
  'src/storage/node-file.ts',
  'src/adapters/v86.ts',
  'src/adapters/emscripten.ts',
  'src/adapters/js-dos.ts',
  'src/adapters/sockdrive.ts',
  'src/adapters/worker-disk.ts',
  'src/adapters/file-handles.ts',
  'src/worker/index.ts',
];

/** One declaration that can be met from an entry. */
interface Met {
  readonly name: string;
  readonly symbol: CheckerSymbol;
  readonly declarations: readonly Node[];
  /** How it is met: the entry that exports it, or the declaration that names it. */
  readonly from: string;
}

/** What entries export without a doc comment, members included. */
export function undocumentedSurface({ files, checker }: TypedProject, entries: readonly string[] = ENTRIES): string[] {
  const surface = exportsOf(files, checker, entries);
  const missing = entries.filter((path) => !files.some((file) => file.path === path)).map((path) => `${path} is missing`);
  const bare = surface
    .filter(({ symbol }) => !checker.getDocumentationCommentOfSymbol(symbol))
    .map(({ name, from }) => `${from} exports ${name}, which has no doc comment`);
  const texts = new Set([...missing, ...bare]);
  for (const { name, declarations } of surface)
    for (const declaration of declarations)
      for (const member of membersOf(declaration)) {
        const symbol = checker.getSymbolAtLocation(nameOf(member) ?? member);
        if (symbol && !isDocumented(symbol, declaration, checker)) texts.add(`${placeOf(member, files)}: ${name}.${symbol.name} has no doc comment`);
      }
  return [...texts];
}

/** Types that signatures of the surface name and no entry exports: those of an entry are exported by it or by the first. */
export function unexportedTypes({ files, checker }: TypedProject, entries: readonly string[] = ENTRIES): string[] {
  const findings = new Set<string>();
  for (const entry of entries) {
    const exported = exportsOf(files, checker, [entry]);
    const known = new Set([...exported, ...exportsOf(files, checker, entries.slice(0, 1))].map(({ symbol }) => symbol.id));
    const met = [...exported];
    // What the first entry exports is followed there.
    const seen = new Set(known);
    for (const one of met)
      for (const next of namedBy(one, checker)) {
        if (seen.has(next.symbol.id) || !next.declarations.some((declaration) => placeOf(declaration, files))) continue;
        seen.add(next.symbol.id);
        met.push(next);
        if (!known.has(next.symbol.id)) findings.add(`${entry} does not export ${next.name}, which ${next.from} names`);
      }
  }
  return [...findings];
}

/** Every export of the entries, with its declarations. */
function exportsOf(files: readonly SourceText[], checker: Checker, entries: readonly string[]): Met[] {
  return entries.flatMap((path) => {
    const entry = files.find((file) => file.path === path);
    const module = entry && checker.getSymbolAtLocation(entry.tree);
    // A worker's script exports nothing.
    return module ? checker.getExportsOfModule(module).map((exported) => met(resolved(exported, checker), path, exported.name)) : [];
  });
}

const met = (symbol: CheckerSymbol, from: string, name = symbol.name): Met => ({
  symbol,
  name,
  from,
  declarations: symbol.declarations.flatMap((handle) => handle.resolve() ?? []),
});

const resolved = (symbol: CheckerSymbol, checker: Checker): CheckerSymbol =>
  symbol.flags & SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;

/** Types of the project that a declaration names, or has by inference. */
function namedBy({ name, declarations }: Met, checker: Checker): Met[] {
  const names: Node[] = [];
  const inferred: Node[] = [];
  for (const declaration of declarations) collect(declaration, names, inferred);
  const symbols = checker.getSymbolAtLocation(names).flatMap((symbol) => (symbol ? [resolved(symbol, checker)] : []));
  for (const node of inferred) symbols.push(...symbolsOf(inferredType(node, checker), checker));
  return symbols.filter(({ flags }) => flags & NAMED_TYPES).map((symbol) => met(symbol, name));
}

/** The type of a value, or of what a function returns. */
function inferredType(node: Node, checker: Checker): Type | undefined {
  if (!isFunction(node)) return checker.getTypeAtLocation(node);
  const signature = checker.getSignatureFromDeclaration(node);
  return signature && checker.getReturnTypeOfSignature(signature);
}

/** The names of a type and of its arguments, however deep. */
function symbolsOf(type: Type | undefined, checker: Checker): CheckerSymbol[] {
  if (!type) return [];
  const { objectFlags = 0 } = type as { objectFlags?: ObjectFlags };
  const inside = objectFlags & ObjectFlags.Reference ? checker.getTypeArguments(type as TypeReference) : type.getAliasTypeArguments();
  const symbol = type.getSymbol();
  return [...(symbol ? [symbol] : []), ...inside.flatMap((one) => (one.id === type.id ? [] : symbolsOf(one, checker)))];
}

const NAMED_TYPES = SymbolFlags.Interface | SymbolFlags.Class | SymbolFlags.TypeAlias | SymbolFlags.Enum;

const FUNCTIONS: readonly SyntaxKind[] = [
  SyntaxKind.ArrowFunction,
  SyntaxKind.FunctionExpression,
  SyntaxKind.FunctionDeclaration,
  SyntaxKind.MethodDeclaration,
  SyntaxKind.GetAccessor,
];
const isFunction = ({ kind }: Node): boolean => FUNCTIONS.includes(kind);
const isValue = ({ kind }: Node): boolean => kind === SyntaxKind.VariableDeclaration || kind === SyntaxKind.PropertyDeclaration;

/**
 * Identifiers in what others see of a declaration, and what in it has a type that is not written: not in bodies and values, nor in members that are
 * nobody else's.
 */
function collect(node: Node, names: Node[], inferred: Node[]): void {
  if (isHidden(node)) return;
  if (node.kind === SyntaxKind.Identifier) names.push(node);
  const { body, initializer, type } = node as { body?: Node; initializer?: Node; type?: Node };
  const shown = initializer && isFunction(initializer) ? initializer : undefined;
  if (!type && !shown && (isFunction(node) || isValue(node))) inferred.push(node);
  node.forEachChild((child) => {
    if (child !== body && child.kind !== SyntaxKind.JSDoc && (child !== initializer || child === shown)) collect(child, names, inferred);
  });
}

/** Members of classes and interfaces that embedders see. */
function membersOf(declaration: Node): Node[] {
  if (!isClassDeclaration(declaration) && !isInterfaceDeclaration(declaration)) return [];
  return (declaration.members as readonly Node[]).filter(
    (member) => !isHidden(member) && nameOf(member) !== undefined && member.kind !== SyntaxKind.SetAccessor,
  );
}

const nameOf = (member: Node): Node | undefined => (member as { name?: Node }).name;

/** Private, protected, or for the project alone. */
function isHidden(node: Node): boolean {
  if (nameOf(node)?.kind === SyntaxKind.PrivateIdentifier) return true;
  const { modifiers = [] } = node as { modifiers?: readonly Node[] };
  if (modifiers.some(({ kind }) => kind === SyntaxKind.PrivateKeyword || kind === SyntaxKind.ProtectedKeyword)) return true;
  return node.jsDoc?.some((comment) => comment.getText().includes('@internal')) ?? false;
}

/** A member has a comment of its own, or one of the member that it implements, which editors show in its place. */
function isDocumented(member: CheckerSymbol, declaration: Node, checker: Checker): boolean {
  if (checker.getDocumentationCommentOfSymbol(member)) return true;
  const { heritageClauses = [] } = declaration as { heritageClauses?: readonly { readonly types: readonly Node[] }[] };
  return heritageClauses
    .flatMap(({ types }) => types)
    .some((type) => {
      const above = checker.getTypeAtLocation(type);
      const symbol = above && checker.getPropertyOfType(above, member.name);
      if (!symbol) return false;
      return symbol.declarations.some((handle) => {
        const declared = handle.resolve();
        return declared !== undefined && declared.parent !== declaration && isDocumented(symbol, declared.parent, checker);
      });
    });
}

function placeOf(node: Node, files: readonly SourceText[]): string | undefined {
  let top = node;
  while (top.parent) top = top.parent;
  const file = files.find(({ tree, path }) => tree === top && path.startsWith('src/'));
  return file && place(file, node);
}
