/**
 * The command line as a function: verbs, and the handling of their failures. A verb's code is loaded when it is called. Verbs that only
 * qemu-img has are refused by name.
 */
import { DiskError } from '../index.ts';
import { printUsage, printVersion } from './help.ts';
import { parseOptions } from './options.ts';
import { complain, Failure, Halt, misuse, report, type Terminal } from './terminal.ts';
import { readTraceOptions } from './trace.ts';
import { faultText, isOutOfMemory } from './words.ts';

type Verb = (terminal: Terminal, args: readonly string[]) => Promise<number>;

const VERBS: Readonly<Record<string, () => Promise<{ run: Verb }>>> = {
  amend: () => import('./amend.ts'),
  bench: () => import('./bench.ts'),
  bitmap: () => import('./bitmap.ts'),
  check: () => import('./check.ts'),
  commit: () => import('./commit.ts'),
  compact: () => import('./compact.ts'),
  compare: () => import('./compare.ts'),
  convert: () => import('./convert.ts'),
  create: () => import('./create.ts'),
  dd: () => import('./dd.ts'),
  info: () => import('./info.ts'),
  io: () => import('./io.ts'),
  map: () => import('./map.ts'),
  measure: () => import('./measure.ts'),
  rebase: () => import('./rebase.ts'),
  resize: () => import('./resize.ts'),
  snapshot: () => import('./snapshot.ts'),
};

/** Runs a command line (without the program's name); resolves to the exit status. An error that it throws is a fault of tabdisk. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  try {
    return await dispatch(terminal, args);
  } catch (error) {
    if (error instanceof Failure) {
      report(terminal, error);
      return error.status;
    }
    if (error instanceof Halt) {
      terminal.err(`${error.message}\n`);
      return 1;
    }
    if (error instanceof DiskError || isOutOfMemory(error)) {
      complain(terminal, faultText(error));
      return 1;
    }
    throw error;
  }
}

async function dispatch(terminal: Terminal, args: readonly string[]): Promise<number> {
  if (args.length === 0) throw misuse('Not enough arguments');
  const options = parseOptions(args, { short: 'hVT:', long: { help: 'h', version: 'V', trace: 'T:' }, stopAtArgument: true });
  if (readTraceOptions(terminal, options.all('T'))) return 0;
  if (options.has('h')) return printUsage(terminal);
  if (options.has('V')) return printVersion(terminal);
  const [name, ...rest] = options.rest;
  if (name === undefined) {
    // QEMU accepts -T alone.
    if (options.has('T')) return 0;
    throw misuse('Not enough arguments');
  }
  if (!Object.hasOwn(VERBS, name)) throw misuse(`Command not found: ${name}`);
  const verb = await (VERBS[name] as () => Promise<{ run: Verb }>)();
  return verb.run(terminal, rest);
}
