/** The type of the commands of `io`, and how their arguments are counted and read. Each command returns true if it succeeded. */
import { DiskError } from '../index.ts';
import { Complaint } from './complaint.ts';
import type { Session } from './io-session.ts';
import { Options, scanOptions } from './options.ts';
import { readSize } from './sizes.ts';
import { requestText } from './words.ts';

/** The largest request, in bytes: 2 GiB minus a sector. */
export const MAX_REQUEST = 2147483136;

export interface Command {
  readonly name: string;
  /** Arguments as `help` shows them. */
  readonly usage: string;
  readonly summary: string;
  /** Further lines for `help NAME`. */
  readonly details?: string;
  /** How many words may follow the name, options included. */
  readonly min: number;
  readonly max: number;
  /** Works without an open image. */
  readonly withoutFile?: boolean;
  /** Needs an image that is open for writing. */
  readonly writes?: boolean;
  /** Does not wait for the image: reports of requests beside it are shown later. */
  readonly beside?: boolean;
  /** getopt's short options. */
  readonly options?: string;
  /** Options that qemu-io has and tabdisk does not yet. */
  readonly refused?: string;
  run(session: Session, options: Options): Promise<boolean>;
}

/** Ends a command with its usage line. */
export class Misused extends Error {}

/** The line that describes a command. */
export const usageLine = ({ name, usage, summary }: Command): string => `${name} ${usage} -- ${summary}\n`.replace(/^(\S+) {2}-- /, '$1 -- ');

/** Runs one command line over the session. */
export async function runCommand(session: Session, command: Command, words: readonly string[]): Promise<boolean> {
  const { out, err } = session.terminal;
  if (!command.withoutFile && !session.disk) {
    err("no file open, try 'help open'\n");
    return false;
  }
  if (words.length < command.min || words.length > command.max) {
    err(`bad argument count ${words.length} to ${command.name}, expected ${countText(command)} arguments\n`);
    return false;
  }
  if (command.writes && session.readOnly) {
    err(`${session.terminal.program}: Block node is read-only\n`);
    return false;
  }
  const options = command.options === undefined ? new Options() : scanOptions(words, { short: command.options + (command.refused ?? '') });
  if (!(options instanceof Options)) {
    const { kind, letter } = options;
    err(`${command.name}: ${kind === 'unknown' ? 'invalid option' : 'option requires an argument'} -- '${letter}'\n`);
    out(usageLine(command));
    return false;
  }
  if (command.options === undefined) options.rest.push(...words);
  for (const letter of command.refused?.replaceAll(':', '') ?? '')
    if (options.has(letter)) {
      err(`${session.terminal.program}: ${command.name}: the option -${letter} is not supported yet\n`);
      return false;
    }
  if (!command.beside) session.deliver();
  try {
    return await command.run(session, options);
  } catch (error) {
    if (error instanceof Misused) out(usageLine(command));
    else if (error instanceof Complaint) out(`${error.message}\n`);
    else throw error;
    return false;
  }
}

function countText({ min, max }: Command): string {
  if (max === Number.POSITIVE_INFINITY) return `at least ${min}`;
  return min === max ? `${min}` : `between ${min} and ${max}`;
}

/** An offset or a length. */
export function numberArgument(text: string): number {
  const size = readSize(text);
  if (size === 'not-a-size') throw new Complaint(`Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- ${text}`);
  if (size === 'too-large') throw new Complaint(`Parsing error: argument too large -- ${text}`);
  return size;
}

/** A byte to fill or to verify with. */
export function patternArgument(text: string): number {
  const value = integer(text);
  if (value === undefined || value > 255) throw new Complaint(`${text} is not a valid pattern byte`);
  return value;
}

/** An integer as C reads it: 0x for hexadecimal, a leading 0 for octal. */
export function integer(text: string): number | undefined {
  if (/^0x[0-9a-f]+$/i.test(text)) return Number(text);
  if (/^0[0-7]*$/.test(text)) return Number.parseInt(text, 8);
  return /^[1-9]\d*$/.test(text) ? Number(text) : undefined;
}

/** Runs a request; if the image refuses it, prints the failure and returns false. */
export async function attempt(session: Session, what: string, request: () => Promise<void>, out = session.terminal.out): Promise<boolean> {
  try {
    await request();
    return true;
  } catch (error) {
    if (!(error instanceof DiskError)) throw error;
    out(`${what} failed: ${requestText(error)}\n`);
    return false;
  }
}
