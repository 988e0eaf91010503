/**
 * The script of the engine's worker, `tabdisk/worker`. The page starts it with
 * `new Worker(new URL(…), { type: 'module' })` and hands the worker to `connectEngine`.
 */
import { serve } from './host.ts';
import type { Port } from './outbox.ts';

serve(globalThis as unknown as Port);
