/** The engine in its worker; on this thread if the browser does not start such a worker. */
import { connectEngine, connectEngineHere, DiskError, type Engine, type FormatFacts } from '../index.ts';
import workerAddress from '../worker/index.ts?worker&url';

/** The page tells the user where images are, and that they are lost with the tab. */
const OPTIONS = { memoryIfBlocked: true };

/** An engine, and whether it runs on the page's own thread. */
export interface StartedEngine {
  readonly engine: Engine;
  readonly here: boolean;
  /** The facts about the formats it knows. */
  readonly formats: readonly FormatFacts[];
}

/** Rejects with `io` of the field `module` if the engine's files cannot be loaded. */
export async function startEngine(): Promise<StartedEngine> {
  try {
    const worker = new Worker(workerAddress, { type: 'module', name: 'tabdisk' });
    return await started(await connectEngine(worker, OPTIONS), false);
  } catch (error) {
    // Errors that the engine itself reports would be the same on this thread.
    if (error instanceof DiskError && !(error.kind === 'io' && (error.field === 'script' || error.field === 'worker'))) throw error;
    await requireScript(error);
    return started(await connectEngineHere(OPTIONS), true);
  }
}

const started = async (engine: Engine, here: boolean): Promise<StartedEngine> => ({ engine, here, formats: await engine.library.formats() });

/** Distinguishes a worker that the browser does not start from one whose file is missing. */
async function requireScript(cause: unknown): Promise<void> {
  const answer = await fetch(workerAddress).catch(() => undefined);
  if (answer?.ok && /javascript/.test(answer.headers.get('content-type') ?? '')) return;
  throw new DiskError(
    'io',
    'The disk engine, a part of this page, could not be loaded: look at the network, and reload, there may be a newer version of the page',
    { field: 'module', cause },
  );
}
