/**
 * The input, the output and the failures of a command. Commands get a `Terminal` instead of the process, so that they run in
 * tests and in any host. A `Failure` ends a command with lines on standard error and an exit status; any other error that is
 * thrown, except a DiskError, is a bug and keeps its stack.
 */

/** The connections of a command to the outside. */
export interface Terminal {
  /** The text before every message; the name that the user typed. */
  readonly program: string;
  out(text: string): void;
  err(text: string): void;
  /** Standard input, line by line, without line ends. */
  readonly lines: AsyncIterable<string>;
  /** Sets the function that is called when the user asks a running command for its progress (SIGUSR1), or none. Missing where the user cannot ask. */
  onStatusRequest?(answer: (() => void) | undefined): void;
  /** The command's own script, to be started in threads. Missing where there is none. */
  readonly threadScript?: URL;
  /** Sends the running process a signal, by number or name. Missing where there is no process. */
  raise?(signal: number | 'SIGABRT'): void;
}

/** Ends the command. */
export class Failure extends Error {
  /** The process's exit status. */
  readonly status: number;
  /** Adds the hint where help is. */
  readonly hint: boolean;
  /** Puts the program's name before every line, not only the first. */
  readonly everyLine: boolean;
  /** The file that was being read at the failure; it is printed behind the program's name. */
  readonly place: string;

  constructor(message: string, { status = 1, hint = false, everyLine = false, place = '' } = {}) {
    super(message);
    this.name = 'Failure';
    this.status = status;
    this.hint = hint;
    this.everyLine = everyLine;
    this.place = place;
  }
}

/** Ends the program at once, with a line of its own: later results could not be trusted. */
export class Halt extends Error {}

/** A wrong invocation: the message, and where help is. */
export const misuse = (message: string): Failure => new Failure(message, { hint: true });

/** A feature that QEMU has and tabdisk does not have yet. */
/** Something of QEMU's that tabdisk does not have. */
export class NotYet extends Failure {}

/** The failure that says so. */
export const notYet = (what: string): Failure => new NotYet(`${what} is not supported yet`);

/** A message on standard error, under the program's name. */
export function complain(terminal: Terminal, message: string): void {
  terminal.err(`${terminal.program}: ${message}\n`);
}

/** A warning, likewise. */
export function warn(terminal: Terminal, message: string): void {
  complain(terminal, `warning: ${message}`);
}

/** Prints a failure in the form for users. */
export function report(terminal: Terminal, failure: Failure): void {
  for (const part of failure.everyLine ? failure.message.split('\n') : [failure.message])
    terminal.err(`${terminal.program}:${failure.place === '' ? '' : `${failure.place}:`} ${part}\n`);
  if (failure.hint) terminal.err(`Try '${terminal.program} --help' for more information\n`);
}
