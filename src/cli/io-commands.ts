/** The commands of `io` about the image as a whole, and the table of them all. */
import { setTimeout as sleepFor } from 'node:timers/promises';
import { DiskError } from '../index.ts';
import { Complaint } from './complaint.ts';
import { PREALLOCATION_MODES } from './formats.ts';
import { specificText } from './info.ts';
import { attempt, type Command, integer, Misused, numberArgument, usageLine } from './io-command.ts';
import { debugCommands } from './io-debug.ts';
import { openCommands } from './io-open.ts';
import { sizeText } from './io-report.ts';
import { requestCommands } from './io-requests.ts';
import type { Session } from './io-session.ts';
import { resizeTo } from './resize.ts';
import { complain, Failure } from './terminal.ts';
import { requestText } from './words.ts';

const alloc: Command = {
  name: 'alloc',
  usage: 'offset [count]',
  summary: 'checks if offset is allocated in the file',
  min: 1,
  max: 2,
  async run(session, { rest: [offsetText = '', countText = '512'] }) {
    const offset = numberArgument(offsetText);
    const asked = numberArgument(countText);
    const count = Math.max(0, Math.min(asked, session.size - offset));
    let allocated = 0;
    const done = await attempt(session, 'is_allocated', async () => {
      for await (const run of runs(session, offset, count)) if (run.allocated) allocated += run.length;
    });
    if (!done) return false;
    session.terminal.out(`${allocated}/${count} bytes allocated at offset ${sizeText(offset)}\n`);
    return true;
  },
};

interface Run {
  readonly start: number;
  readonly length: number;
  /** The bytes are in this image, not only in a backing file. */
  readonly allocated: boolean;
}

/** Runs of this image's own allocation, neighbours merged. */
async function* runs(session: Session, offset: number, length: number): AsyncIterableIterator<Run> {
  const { disk } = session;
  if (!disk) return;
  let open: Run | undefined;
  const inside = Math.max(0, Math.min(length, disk.size - offset));
  const add = function* (next: Run): Generator<Run> {
    if (open?.allocated === next.allocated) open = { ...open, length: open.length + next.length };
    else {
      if (open) yield open;
      open = next;
    }
  };
  if (inside > 0)
    for await (const { start, length: part, depth, present } of disk.map(offset, inside))
      yield* add({ start, length: part, allocated: depth === 0 && present });
  // The part of its last sector that a raw file does not have.
  if (inside < length) yield* add({ start: offset + inside, length: length - inside, allocated: true });
  if (open) yield open;
}

const close: Command = {
  name: 'close',
  usage: '',
  summary: 'close the current open file',
  min: 0,
  max: 0,
  async run(session) {
    await session.close();
    return true;
  },
};

const info: Command = {
  name: 'info',
  usage: '',
  summary: 'prints information about the current file',
  min: 0,
  max: 0,
  async run(session) {
    const facts = await session.disk?.info();
    if (!facts) return false;
    const cluster = facts['cluster-size'] ?? 0;
    const { out } = session.terminal;
    out(
      `format name: ${facts.format}\ncluster size: ${sizeText(cluster)}\nvm state offset: ${sizeText(stateOffset(session.size, cluster, facts['format-specific']?.data['extended-l2'] === true))}\n`,
    );
    out(specificText(facts['format-specific']?.data));
    return true;
  },
};

/** The place where saved machine state begins: behind the disk, where the next L2 table would map. */
function stateOffset(size: number, clusterSize: number, extended: boolean): number {
  if (clusterSize === 0) return 0;
  const covered = clusterSize * (clusterSize / (extended ? 16 : 8));
  return Math.ceil(size / covered) * covered;
}

const length: Command = {
  name: 'length',
  usage: '',
  summary: 'gets the length of the current file',
  min: 0,
  max: 0,
  async run(session) {
    session.terminal.out(`${sizeText(session.size)}\n`);
    return true;
  },
};

const map: Command = {
  name: 'map',
  usage: '',
  summary: 'prints the allocated areas of a file',
  min: 0,
  max: 0,
  async run(session) {
    const hex = (value: number) => `(0x${value.toString(16)})`;
    try {
      for await (const { start, length: part, allocated } of runs(session, 0, session.size)) {
        const state = allocated ? '    allocated' : 'not allocated';
        session.terminal.out(`${sizeText(part)} ${hex(part)} bytes ${state} at offset ${sizeText(start)} ${hex(start)}\n`);
      }
      return true;
    } catch (error) {
      if (!(error instanceof DiskError)) throw error;
      complain(session.terminal, `Failed to get allocation status: ${requestText(error)}`);
      return false;
    }
  },
};

const quit: Command = {
  name: 'quit',
  usage: '',
  summary: 'exit the program',
  min: 0,
  max: Number.POSITIVE_INFINITY,
  withoutFile: true,
  // The loop that reads the commands ends there; this command does nothing.
  run: () => Promise.resolve(true),
};

const sleep: Command = {
  name: 'sleep',
  usage: '',
  summary: 'waits for the given value in milliseconds',
  min: 1,
  max: 1,
  withoutFile: true,
  async run(_session, { rest: [text = ''] }) {
    const milliseconds = integer(text);
    if (milliseconds === undefined) throw new Complaint(`${text} is not a valid number`);
    await sleepFor(milliseconds);
    return true;
  },
};

const truncate: Command = {
  name: 'truncate',
  usage: '[-m prealloc_mode] off',
  summary: 'truncates the current file at the given offset',
  min: 1,
  max: 3,
  writes: true,
  options: 'm:',
  async run(session, options) {
    const mode = options.last('m') ?? 'off';
    const { terminal, disk } = session;
    try {
      if (!PREALLOCATION_MODES.includes(mode)) throw new Failure(`Invalid preallocation mode '${mode}'`);
      const [text] = options.rest;
      if (text === undefined || options.rest.length > 1) throw new Misused();
      const size = numberArgument(text);
      if (disk) await resizeTo(disk, size, mode);
      return true;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      complain(terminal, error.message);
      return false;
    }
  },
};

const help: Command = {
  name: 'help',
  usage: '[command]',
  summary: 'help for one or all commands',
  min: 0,
  max: 1,
  withoutFile: true,
  async run({ terminal }, { rest: [name] }) {
    if (name === undefined) {
      for (const command of commands) terminal.out(usageLine(command));
      terminal.out("\nUse 'help commandname' for extended help.\n");
      return true;
    }
    const command = commands.find((one) => one.name === name);
    if (!command) throw new Complaint(`command ${name} not found`);
    terminal.out(usageLine(command) + (command.details ?? ''));
    return true;
  },
};

/** Every command, by name. */
export const commands: readonly Command[] = [
  ...requestCommands,
  ...openCommands,
  ...debugCommands,
  alloc,
  close,
  help,
  info,
  length,
  map,
  quit,
  sleep,
  truncate,
].sort((a, b) => (a.name < b.name ? -1 : 1));
