/** `await using`: the symbol of the method that closes. */
/// <reference lib="esnext.disposable" preserve="true" />

/** `Symbol.asyncDispose`, or nobody's symbol where the browser has none: call `close` there. */
export const asyncDispose: typeof Symbol.asyncDispose = Symbol.asyncDispose ?? Symbol();
