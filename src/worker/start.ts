/** The first work of the engine's worker after its script has loaded: serve as the engine, or compress for the engine that started it. */
import { servedAsCompressor } from './compressors.ts';
import { serve } from './host.ts';
import type { Port } from './outbox.ts';

/** Answers messages at the worker's own scope from now on. */
export function start(scope: Port & { readonly name?: string }): void {
  if (!servedAsCompressor(scope)) serve(scope);
}
