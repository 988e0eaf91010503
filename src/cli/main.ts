/**
 * The `tabdisk` command: program.ts over this process. The build adds the first line that makes it run by itself. A thread of the command runs this file
 * too, and then it compresses.
 *
 * If the reader of the output goes away, the disk under it is full, or the terminal hangs up, the work is done all the same and the status is that of the work,
 * as in QEMU's tools. A signal ends the process at once, as it ends those tools: the images are then in a state that a power cut may leave. Failures that
 * no code waits for are printed once, the command goes on as far as it can and closes its images, and the status reports them.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { decodeText, encodeText } from '../qemu.ts';
import { serveAsThread } from './compression.ts';
import { linesOf } from './lines.ts';
import { run } from './program.ts';
import { complain, type Terminal } from './terminal.ts';
import { faultText } from './words.ts';

/** Status of a command that met a fault of tabdisk, unless it has a worse one. */
const FAULT = 1;

if (isMainThread) main();
else serveAsThread();

function main(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  let statusListener: (() => void) | undefined;
  // Also if no command handles it: Node would wait for a debugger.
  process.on('SIGUSR1', () => statusListener?.());

  const terminal: Terminal = {
    program: basename(process.env.TABDISK_ARGV0 ?? 'tabdisk'),
    out: (text) => process.stdout.write(encodeText(text)),
    err: (text) => process.stderr.write(encodeText(text)),
    onStatusRequest: (answer) => {
      statusListener = answer;
    },
    raise,
    // Source files, which a loader runs, do not run in threads.
    ...(import.meta.url.endsWith('.js') ? { threadScript: new URL(import.meta.url) } : {}),
    lines: { [Symbol.asyncIterator]: () => linesOf(process.stdin)[Symbol.asyncIterator]() },
  };
  // The status until the command has ended: a command that never ends has failed too.
  process.exitCode = FAULT;
  let faulty = false;
  const tellFault = (error: unknown) => {
    faulty = true;
    complain(terminal, faultText(error, { stack: process.env.TABDISK_STACK !== undefined }));
  };
  process.on('uncaughtException', tellFault);
  run(terminal, commandWords())
    .catch((error: unknown) => {
      tellFault(error);
      return FAULT;
    })
    .then((status) => {
      process.exitCode = faulty && status === 0 ? FAULT : status;
    });
}

/** The words behind the program's name. Node replaces bytes that are not UTF-8; a file's name may have such bytes, and Linux knows them. */
function commandWords(): string[] {
  const words = process.argv.slice(2);
  if (process.platform !== 'linux' || !words.some((word) => word.includes('\ufffd'))) return words;
  try {
    const all = decodeText(readFileSync('/proc/self/cmdline')).split('\0');
    return all.slice(0, -1).slice(-words.length);
  } catch {
    return words;
  }
}

function raise(signal: number | 'SIGABRT'): void {
  if (signal === 'SIGABRT') process.abort();
  try {
    process.kill(process.pid, signal);
  } catch {
    // There is no such signal: nothing happens, as when raise fails.
  }
}
