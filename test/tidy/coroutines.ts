/**
 * The forgotten `yield*`: a coroutine that is called but never run does nothing, silently. The compiler knows which
 * expressions are coroutines; this rule looks at where each one stands. Allowed are
 * - the operand of `yield*`, also through parentheses, `? :`, `??`, `||` and `&&`;
 * - any place whose declared type is a coroutine: an argument of `runAsync`, `together` or another function that takes an
 *   `Io`, the `return` of a function that hands its caller an `Io`, a variable annotated `Io`.
 * A function that returns a coroutine may not stand where a function without one is expected (`forEach`, an event listener).
 */
import type { CallExpression, Expression, Node } from 'typescript/unstable/ast';
import { SyntaxKind } from 'typescript/unstable/ast';
import type { Checker, Type } from 'typescript/unstable/sync';
import { SignatureKind, TypeFlags } from 'typescript/unstable/sync';
import { place, type SourceText, walk } from './project.ts';

/** One finding for each coroutine that nothing runs. */
export function forgottenYields(file: SourceText, checker: Checker): string[] {
  const calls: CallExpression[] = [];
  const callbacks: Expression[] = [];
  walk(file.tree, (node) => {
    if (!isCall(node)) return;
    calls.push(node);
    callbacks.push(...node.arguments.filter(mayBeCoroutineFunction));
  });
  const callTypes = checker.getTypeAtLocation(calls);
  const callbackTypes = checker.getTypeAtLocation(callbacks);
  const findings: string[] = [];
  for (const [index, call] of calls.entries()) {
    if (isCoroutine(callTypes[index], checker) && !isRun(call, checker))
      findings.push(`${place(file, call)}: ${shorten(call)} is a coroutine that is not run: put yield* before it`);
  }
  for (const [index, callback] of callbacks.entries()) {
    if (!returnsCoroutine(callbackTypes[index], checker)) continue;
    if (!returnsCoroutine(checker.getContextualType(callback), checker))
      findings.push(`${place(file, callback)}: ${shorten(callback)} returns a coroutine, and whoever calls it here expects none`);
  }
  return findings;
}

const isCall = (node: Node): node is CallExpression => node.kind === SyntaxKind.CallExpression;

/** Arrows are left out: the calls in them are looked at by themselves. */
function mayBeCoroutineFunction({ kind }: Node): boolean {
  return kind === SyntaxKind.Identifier || kind === SyntaxKind.PropertyAccessExpression || kind === SyntaxKind.FunctionExpression;
}

function isRun(expression: Expression, checker: Checker): boolean {
  if (isCoroutine(checker.getContextualType(expression), checker)) return true;
  let child: Node = expression;
  let parent = child.parent;
  while (passesOn(parent, child)) {
    child = parent;
    parent = child.parent;
  }
  return parent.kind === SyntaxKind.YieldExpression && 'asteriskToken' in parent && parent.asteriskToken !== undefined;
}

/** True if the value of `parent` may be the value of `child`. */
function passesOn(parent: Node, child: Node): boolean {
  switch (parent.kind) {
    case SyntaxKind.ParenthesizedExpression:
    case SyntaxKind.NonNullExpression:
      return true;
    case SyntaxKind.ConditionalExpression:
      return 'condition' in parent && parent.condition !== child;
    case SyntaxKind.BinaryExpression: {
      const operator = (parent as Node & { readonly operatorToken: Node }).operatorToken.kind;
      return operator === SyntaxKind.QuestionQuestionToken || operator === SyntaxKind.BarBarToken || operator === SyntaxKind.AmpersandAmpersandToken;
    }
    default:
      return false;
  }
}

/** How deep lists are looked into: a type may be a list of itself. */
const MAX_LISTS = 3;

/** `Io<T>`, alone, in a union or in a list, under its own name or as the generator it stands for. */
function isCoroutine(type: Type | undefined, checker: Checker, lists = MAX_LISTS): boolean {
  if (!type) return false;
  if (type.isUnionType()) return type.getTypes().some((one) => isCoroutine(one, checker, lists));
  if (type.getAliasSymbol()?.name === 'Io') return true;
  if (!type.isTypeReference()) return false;
  const [first] = checker.getTypeArguments(type);
  // A list of coroutines is as idle as one coroutine.
  if (checker.isArrayType(type)) return lists > 0 && isCoroutine(first, checker, lists - 1);
  return type.getSymbol()?.name === 'Generator' && first !== undefined && isPromise(first);
}

/** What a coroutine yields. One that never waits yields never. */
function isPromise(type: Type): boolean {
  if (type.isUnionType()) return type.getTypes().some(isPromise);
  return (type.flags & TypeFlags.Never) !== 0 || ['PromiseLike', 'Promise'].includes(type.getSymbol()?.name ?? '');
}

function returnsCoroutine(type: Type | undefined, checker: Checker): boolean {
  if (!type) return false;
  if (type.isUnionType()) return type.getTypes().some((one) => returnsCoroutine(one, checker));
  if (!type.isObjectType()) return false;
  return checker.getSignaturesOfType(type, SignatureKind.Call).some((one) => isCoroutine(checker.getReturnTypeOfSignature(one), checker));
}

const shorten = (node: Node): string => {
  const text = node.getText().replace(/\s+/g, ' ');
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
};
