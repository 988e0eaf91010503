/** An emulator that blocks: does what it is told to a shared disk, in a worker of its own. */
import { DiskError } from '../../src/base/errors.ts';
import { runSync } from '../../src/base/io.ts';
import { SharedDisk, type SharedDiskHandle } from '../../src/worker/shared-disk.ts';

/** What it is told. */
export interface BlockingTask {
  readonly handle: SharedDiskHandle;
  /** The handle will be used again. */
  readonly keep?: boolean;
  /** Bytes are read back and returned for `read`; `time` reads 4 KiB so many times and returns microseconds for each. */
  readonly steps: readonly (
    | { readonly verb: 'read'; readonly offset: number; readonly length: number }
    | { readonly verb: 'write'; readonly offset: number; readonly bytes: Uint8Array }
    | { readonly verb: 'zero' | 'discard'; readonly offset: number; readonly length: number }
    | { readonly verb: 'flush' }
    | { readonly verb: 'time'; readonly count: number }
  )[];
}

addEventListener('message', ({ data }: MessageEvent<BlockingTask>) => {
  const disk = new SharedDisk(data.handle);
  const results = data.steps.map((step): unknown => {
    try {
      return perform(disk, step);
    } catch (error) {
      return error instanceof DiskError ? error.toJSON() : String(error);
    }
  });
  if (!data.keep) runSync(disk.close());
  postMessage(results);
});

function perform(disk: SharedDisk, step: BlockingTask['steps'][number]): unknown {
  if (step.verb === 'read') {
    const into = new Uint8Array(step.length);
    disk.readSync(step.offset, into);
    return into;
  }
  if (step.verb === 'write') disk.writeSync(step.offset, step.bytes);
  if (step.verb === 'zero') disk.zeroSync(step.offset, step.length);
  if (step.verb === 'discard') disk.discardSync(step.offset, step.length);
  if (step.verb === 'flush') disk.flushSync();
  if (step.verb !== 'time') return undefined;
  const into = new Uint8Array(4096);
  const start = performance.now();
  for (let i = 0; i < step.count; i++) disk.readSync((i % 16) * 4096, into);
  return ((performance.now() - start) * 1000) / step.count;
}
