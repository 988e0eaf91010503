/**
 * The script of the engine's worker, `tabdisk/worker`. The page starts it with
 * `new Worker(new URL(…), { type: 'module' })` and hands the worker to `connectEngine`. The engine starts it again for workers that compress.
 */
import { servedAsCompressor } from './compressors.ts';
import { serve } from './host.ts';
import type { Port } from './outbox.ts';

const scope = globalThis as unknown as Port & { readonly name?: string };
if (!servedAsCompressor(scope)) serve(scope);
