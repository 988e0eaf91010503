/**
 * The `tabdisk` command: program.ts over this process. The build adds the first line that makes it run by itself. In a thread of the command
 * it compresses.
 */
import { basename } from 'node:path';
import { createInterface } from 'node:readline';
import { isMainThread } from 'node:worker_threads';
import { serveAsThread } from './compression.ts';
import { run } from './program.ts';

if (isMainThread) await main();
else serveAsThread();

async function main(): Promise<void> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // The reader went away (`tabdisk map x | head`): nobody is left to tell.
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });

  let statusListener: (() => void) | undefined;
  // Also where nobody answers: Node would wait for a debugger.
  process.on('SIGUSR1', () => statusListener?.());

  process.exitCode = await run(
    {
      program: basename(process.env.TABDISK_ARGV0 ?? 'tabdisk'),
      out: (text) => process.stdout.write(text),
      err: (text) => process.stderr.write(text),
      onStatusRequest: (answer) => {
        statusListener = answer;
      },
      raise: (signal) => {
        if (signal === 'SIGABRT') process.abort();
        try {
          process.kill(process.pid, signal);
        } catch {
          // No such signal: nothing happens, as when raise fails.
        }
      },
      // Sources, which a loader runs, do not run in threads.
      ...(import.meta.url.endsWith('.js') ? { threadScript: new URL(import.meta.url) } : {}),
      lines: { [Symbol.asyncIterator]: () => createInterface({ input: process.stdin })[Symbol.asyncIterator]() },
    },
    process.argv.slice(2),
  );
}
