/**
 * The commands of `io` for debugging: stopping requests at an event of the image, and ending the program by a signal. A debugging layer
 * (driver blkdebug) has the breakpoints; without one the commands answer as QEMU's do, also `wait_break`, which would wait for ever there.
 */
import { setImmediate, setTimeout } from 'node:timers/promises';
import { DiskError } from '../index.ts';
import type { Debugger } from '../qemu.ts';
import { Complaint } from './complaint.ts';
import { type Command, numberArgument } from './io-command.ts';
import type { Session } from './io-session.ts';
import { readSize } from './sizes.ts';

/** One more than the largest number a signal can have, as QEMU takes it. */
const MAX_SIGNAL = 65;

/** A command about breakpoints. `act` throws `not-found`; `failed` is the error in that case. */
const breakpoint = (
  command: Pick<Command, 'name' | 'usage' | 'summary' | 'min'>,
  failed: (tag: string) => string,
  act: (session: Session, breakpoints: Debugger, words: readonly string[]) => void | Promise<void>,
): Command => ({
  ...command,
  beside: true,
  max: command.min,
  async run(session, { rest }) {
    let reason = 'Operation not supported';
    const { debugger: breakpoints } = session;
    try {
      if (breakpoints) {
        await act(session, breakpoints, rest);
        return true;
      }
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      reason = 'No such file or directory';
    }
    session.terminal.out(`${failed(rest.at(-1) ?? '')}: ${reason}\n`);
    return false;
  },
});

const abort: Command = {
  name: 'abort',
  usage: '',
  summary: 'simulate a program crash using abort(3)',
  min: 0,
  max: 0,
  withoutFile: true,
  async run({ terminal }) {
    if (!terminal.raise) throw new Complaint('abort: there is no process to end here');
    terminal.raise('SIGABRT');
    return true;
  },
};

const sigraise: Command = {
  name: 'sigraise',
  usage: 'signal',
  summary: 'raises a signal',
  details: '\n The argument is the number of the signal, 15 for SIGTERM.\n',
  min: 1,
  max: 1,
  withoutFile: true,
  async run({ terminal }, { rest: [text = ''] }) {
    const signal = readSize(text) === 'too-large' ? Number.POSITIVE_INFINITY : numberArgument(text);
    if (signal > MAX_SIGNAL) throw new Complaint(`signal argument '${text}' is too large to be a valid signal`);
    if (!terminal.raise) throw new Complaint('sigraise: there is no process to send a signal to here');
    terminal.raise(signal);
    return true;
  },
};

/** The commands of this file. */
export const debugCommands: readonly Command[] = [
  abort,
  breakpoint(
    { name: 'break', usage: 'event tag', summary: 'sets a breakpoint on event and tags the stopped request as tag', min: 2 },
    () => 'Could not set breakpoint',
    (_, breakpoints, [event = '', tag = '']) => breakpoints.breakpoint(event, tag),
  ),
  breakpoint(
    { name: 'remove_break', usage: 'tag', summary: 'remove a breakpoint by tag', min: 1 },
    (tag) => `Could not remove breakpoint ${tag}`,
    (_, breakpoints, [tag = '']) => goOn(() => breakpoints.removeBreakpoint(tag)),
  ),
  breakpoint(
    { name: 'resume', usage: 'tag', summary: 'resumes the request tagged as tag', min: 1 },
    () => 'Could not resume request',
    (_, breakpoints, [tag = '']) => goOn(() => breakpoints.resume(tag)),
  ),
  sigraise,
  breakpoint(
    { name: 'wait_break', usage: 'tag', summary: 'waits for the suspension of a request', min: 1 },
    () => 'Could not wait for request',
    waitForBreak,
  ),
];

/** Lets a resumed request run as far as it can without waiting. */
async function goOn(resume: () => void): Promise<void> {
  try {
    resume();
  } finally {
    await setImmediate();
  }
}

/** Unlike QEMU, does not wait if no request is under way that could reach the breakpoint. */
async function waitForBreak(session: Session, breakpoints: Debugger, [tag = '']: readonly string[]): Promise<void> {
  let there = false;
  breakpoints.suspended(tag).then(() => {
    there = true;
  });
  await setImmediate();
  if (there) return;
  session.deliver();
  while (!there) {
    if (breakpoints.waiting.length >= session.started) throw new DiskError('not-found', `no request is on its way to '${tag}'`);
    await setTimeout(1);
  }
}
