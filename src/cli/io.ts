/**
 * `io`: commands on the guest's bytes, after qemu-io. Each -c is one command; without -c they are read from standard input behind a prompt.
 * A command that fails makes the exit status 1, and the next ones still run.
 */
import { printUsage, printVersion } from './help.ts';
import { runCommand } from './io-command.ts';
import { commands } from './io-commands.ts';
import { openFile, optionsOf } from './io-open.ts';
import { Session } from './io-session.ts';
import { takeObjects } from './objects.ts';
import { getoptText, Options, scanOptions } from './options.ts';
import { Failure, report, type Terminal } from './terminal.ts';
import { readTraceOptions } from './trace.ts';

const PROMPT = 'qemu-io> ';

const TABLE = {
  short: 'hVc:d:f:rsnUt:CmkT:i:',
  long: {
    help: 'h',
    version: 'V',
    trace: 'T:',
    cmd: 'c:',
    discard: 'd:',
    format: 'f:',
    'read-only': 'r',
    snapshot: 's',
    nocache: 'n',
    'force-share': 'U',
    cache: 't:',
    'copy-on-read': 'C',
    misalign: 'm',
    'native-aio': 'k',
    aio: 'i:',
    object: 'object:',
    'image-opts': 'image-opts',
  },
};

/** Runs `io`; returns the exit status. */
export async function run(terminal: Terminal, args: readonly string[]): Promise<number> {
  const options = scanOptions(args, TABLE);
  if (!(options instanceof Options)) {
    terminal.err(`${terminal.program}: ${getoptText(options)}\n`);
    printUsage(terminal, 'io');
    return 1;
  }
  if (readTraceOptions(terminal, options.all('T'))) return 0;
  if (options.has('h')) return printUsage(terminal, 'io');
  if (options.has('V')) return printVersion(terminal);
  takeObjects(terminal, options);
  const [path] = options.rest;
  if (options.rest.length > 1) {
    printUsage(terminal, 'io');
    return 1;
  }
  const session = new Session(terminal);
  try {
    if (path !== undefined && !(await openNamed(session, path, options))) return 1;
    return await runAll(session, options);
  } finally {
    await session.close();
  }
}

/** Opens the image that the command line names: a file, or with --image-opts options. */
function openNamed(session: Session, path: string, options: Options): Promise<boolean> {
  const format = options.last('f');
  if (!options.has('image-opts')) return openFile(session, path, options, { format });
  if (format !== undefined) throw new Failure('--image-opts and -f are mutually exclusive');
  return openFile(session, undefined, options, { options: optionsOf(session, [path]) });
}

async function runAll(session: Session, options: Options): Promise<number> {
  let failed = false;
  const obey = async (line: string): Promise<boolean> => {
    const words = line.split(' ').filter((word) => word !== '');
    if (words[0] === 'quit') return false;
    if (words.length > 0 && !(await obeyWords(session, words))) failed = true;
    return true;
  };
  if (options.has('c')) {
    for (const line of options.all('c')) if (!(await obey(line))) break;
  } else {
    session.terminal.out(PROMPT);
    for await (const line of session.terminal.lines) {
      if (!(await obey(line))) break;
      session.deliver();
      session.terminal.out(PROMPT);
    }
  }
  return failed ? 1 : 0;
}

async function obeyWords(session: Session, [name = '', ...words]: readonly string[]): Promise<boolean> {
  const { terminal } = session;
  const command = commands.find((one) => one.name === name);
  if (!command) {
    terminal.err(`command "${name}" not found\n`);
    return false;
  }
  try {
    return await runCommand(session, command, words);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    report(terminal, error);
    return false;
  }
}
