/// <reference lib="esnext.disposable" preserve="true" />
/** `await using` for what is closed. */

/** `Symbol.asyncDispose`, or nobody's symbol where the browser has none: call `close` there. */
export const asyncDispose: typeof Symbol.asyncDispose = Symbol.asyncDispose ?? Symbol();
