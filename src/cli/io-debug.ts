/**
 * The commands of `io` for debugging: stopping requests at an event of the image, and ending the program by a signal. Breakpoints are the
 * business of a debugging layer; an image without one answers as QEMU's do, also `wait_break`, which would wait for ever there.
 */
import { type Command, Complaint, numberArgument } from './io-command.ts';
import { readSize } from './sizes.ts';

/** One more than the largest number a signal can have, as QEMU takes it. */
const MAX_SIGNAL = 65;

/** A command about breakpoints, which no image here has. */
const breakpoint = (command: Pick<Command, 'name' | 'usage' | 'summary' | 'min'>, failed: (tag: string) => string): Command => ({
  ...command,
  max: command.min,
  async run({ terminal }, { rest }) {
    terminal.out(`${failed(rest.at(-1) ?? '')}: Operation not supported\n`);
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
  ),
  breakpoint({ name: 'remove_break', usage: 'tag', summary: 'remove a breakpoint by tag', min: 1 }, (tag) => `Could not remove breakpoint ${tag}`),
  breakpoint({ name: 'resume', usage: 'tag', summary: 'resumes the request tagged as tag', min: 1 }, () => 'Could not resume request'),
  sigraise,
  breakpoint({ name: 'wait_break', usage: 'tag', summary: 'waits for the suspension of a request', min: 1 }, () => 'Could not wait for request'),
];
